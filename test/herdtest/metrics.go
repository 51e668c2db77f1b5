package herdtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Metrics returns the samples of the edge's /metrics page; see ParseMetrics.
func (e *EdgeProcess) Metrics() (map[string]float64, error) {
	code, body, err := e.Get("/metrics")
	if err != nil {
		return nil, err
	}
	if code != 200 {
		return nil, fmt.Errorf("/metrics: %d", code)
	}
	return ParseMetrics(body)
}

// ParseMetrics parses a /metrics page. The keys are the samples' names with their labels.
func ParseMetrics(page string) (map[string]float64, error) {
	samples := map[string]float64{}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %q: %w", line, err)
		}
		samples[line[:end]] = value
	}
	return samples, nil
}

// Metric returns the sum of the samples of one name that have all of the given labels, written as
// name="value". It returns NaN if there is no such sample.
func (e *EdgeProcess) Metric(name string, labels ...string) float64 {
	e.T.Helper()
	samples, err := e.Metrics()
	if err != nil {
		e.T.Fatalf("metrics of %s: %v", e.Name, err)
	}
	sum, found := 0.0, false
next:
	for sample, value := range samples {
		if sample != name && !strings.HasPrefix(sample, name+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(sample, label) {
				continue next
			}
		}
		sum, found = sum+value, true
	}
	if !found {
		return math.NaN()
	}
	return sum
}
