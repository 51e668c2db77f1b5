package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
)

// stack is the herd of docker-compose.yml, in its own containers.
type stack struct {
	t       *testing.T
	command []string // compose, with its project and file
	env     []string
	project string
	tag     string
	bind    string // the address of this machine on which its ports are
	edges   []*herdtest.EdgeProcess
}

// composed starts the stack and waits until compose says that all of it runs, as a user does after
// `docker compose up -d`.
func composed(t *testing.T, env ...string) *stack {
	t.Helper()
	compose := dockerCompose(t)
	id := os.Getpid()
	s := &stack{
		t: t, project: fmt.Sprintf("herdtest%d", id), tag: fmt.Sprintf("test%d", id),
		// Of a loopback address that nobody uses, so that a herd may run beside it.
		bind: fmt.Sprintf("127.0.%d.%d", 1+id/250%250, 1+id%250),
	}
	s.command = append(compose, "-p", s.project, "-f", "../docker-compose.yml")
	s.env = append(os.Environ(), "HERD_TAG="+s.tag, "HERD_BIND="+s.bind)
	s.env = append(s.env, env...)
	for i, name := range []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"} {
		s.edges = append(s.edges, &herdtest.EdgeProcess{T: t, Name: name,
			Addr: fmt.Sprintf("%s:%d", s.bind, 12000+i), HTTP: fmt.Sprintf("%s:%d", s.bind, 12080+i)})
	}
	s.buildImages()
	t.Cleanup(s.remove)
	s.up()
	return s
}

// dockerCompose returns the compose command of this machine: v2, or that of Debian 12.
func dockerCompose(t *testing.T) []string {
	t.Helper()
	needsFull(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, "docker", "info").Run(); err != nil {
		t.Skipf("skipped: no Docker (%v)", err)
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.CommandContext(ctx, command[0], append(command[1:], "version")...).Run() == nil {
			return command
		}
	}
	t.Skip("skipped: no Docker Compose")
	return nil
}

// buildImages builds the images of deploy/Dockerfile without the stage that compiles. The binaries
// are compiled here instead, so that no registry is needed.
func (s *stack) buildImages() {
	s.t.Helper()
	text, err := os.ReadFile("../deploy/Dockerfile")
	if err != nil {
		s.t.Fatal(err)
	}
	_, stages, found := strings.Cut(string(text), "\nFROM scratch AS edge\n")
	if !found {
		s.t.Fatal("deploy/Dockerfile has no stage called edge")
	}
	stages = "FROM scratch AS edge\n" + stages
	stages = strings.ReplaceAll(strings.ReplaceAll(stages, "--from=build ", ""), "/out/", "out/")

	dir := s.t.TempDir()
	for _, folder := range []string{"out/etc/ssl/certs", "out/empty"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"Dockerfile": stages, "out/etc/ssl/certs/ca-certificates.crt": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "out")+"/",
		"herd/cmd/edge", "herd/cmd/herd", "github.com/nats-io/nats-server/v2")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("compile the binaries: %v\n%s", err, out)
	}
	for _, target := range []string{"edge", "nats"} {
		image := "herd-" + target + ":" + s.tag
		s.docker("build", "-q", "--target", target, "-t", image, dir)
		s.t.Cleanup(func() { exec.Command("docker", "rmi", "-f", image).Run() })
	}
}

// up starts the services that do not run, and waits until they are healthy.
func (s *stack) up() {
	s.t.Helper()
	s.compose("up", "-d", "--no-build")
}

func (s *stack) remove() {
	if s.t.Failed() {
		out, _ := s.try("logs", "--no-color", "--tail", "60")
		s.t.Logf("---- what the containers said last\n%s", out)
		out, _ = s.try("ps")
		s.t.Log(out)
	}
	if out, err := s.try("down", "-v", "-t", "1"); err != nil {
		s.t.Errorf("remove the containers: %v\n%s", err, out)
	}
}

// compose runs a compose command and fails the test if the command fails.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stack) try(args ...string) (string, error) {
	all := append(slices.Clone(s.command), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *stack) docker(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// container returns the id of a service's container.
func (s *stack) container(service string) string {
	s.t.Helper()
	id := strings.TrimSpace(s.compose("ps", "-q", service))
	if id == "" || strings.ContainsAny(id, " \n") {
		s.t.Fatalf("the container of %s is %q", service, id)
	}
	return id
}

// file copies a file out of a container's volume, as deploy/README.md tells operators to.
func (s *stack) file(service, path string) string {
	s.t.Helper()
	to := filepath.Join(s.t.TempDir(), filepath.Base(path))
	s.docker("cp", s.container(service)+":"+path, to)
	return to
}

// cut disconnects a container from the network of edges and NATS servers. What it sends there is
// lost, and no connection gets an error. heal connects it again under its name.
func (s *stack) cut(service string) (heal func()) {
	s.t.Helper()
	id, network := s.container(service), s.project+"_herd"
	s.docker("network", "disconnect", network, id)
	return func() {
		s.t.Helper()
		s.docker("network", "connect", "--alias", service, network, id)
	}
}

// healthy waits until Docker's health check of a service says so.
func (s *stack) healthy(service string, limit time.Duration) time.Duration {
	s.t.Helper()
	id := s.container(service)
	return herdtest.Eventually(s.t, limit, service+" healthy", func() error {
		if state := s.docker("inspect", "-f", "{{.State.Health.Status}}", id); state != "healthy" {
			return errors.New(state)
		}
		return nil
	})
}

// startedAt returns when the container of a service was last started.
func (s *stack) startedAt(t *testing.T, service string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s.docker("inspect", "-f", "{{.State.StartedAt}}", s.container(service)))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (s *stack) edge(name string) *herdtest.EdgeProcess {
	return s.edges[slices.IndexFunc(s.edges, func(e *herdtest.EdgeProcess) bool { return e.Name == name })]
}

// service returns the name of an edge's service in docker-compose.yml.
func service(e *herdtest.EdgeProcess) string { return strings.ToLower(e.Name) }
