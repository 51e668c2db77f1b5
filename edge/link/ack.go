package link

import "time"

// ReceiveAck handles an ack from the neighbour (H5, H6). now is what time.Now returned when the
// ack came. Acks move the cursor back at most once per heartbeat, so whatever they say costs at
// most a window of messages per heartbeat.
func (l *Link) ReceiveAck(now time.Time, a Ack) {
	l.mu.Lock()
	if !l.heeds(now, &a) {
		l.mu.Unlock()
		return
	}
	up := l.heard(now, &l.health.out)
	s := &l.send
	full := len(s.flights) >= l.cfg.Window
	if !s.pinged.IsZero() && len(s.flights) == 0 {
		s.took(now.Sub(s.pinged))
	}
	s.pinged = time.Time{}
	through, back := a.Through, a.Rewind
	if a.Of != l.cfg.Epoch || through > s.sent { // another epoch of ours, or not yet sent
		through, back = 0, true
	}
	switch {
	case a.Epoch != s.to: // another run: it holds only what this ack says
		if s.to != "" {
			s.wentBack = now
		}
		// One that is back may have taken back what it had acknowledged, which is not known any more.
		s.lost = s.lost || a.Epoch < s.to
		s.to, s.known = a.Epoch, false
		l.goBack(through)
	case back && through < s.cursor && s.mayGoBack(now, l.cfg.Heartbeat):
		s.wentBack = now
		s.lost = s.lost || through < s.acked
		l.goBack(through)
	case through >= s.acked:
		l.acknowledged(now, through)
	}
	s.known = s.known || a.Of == l.cfg.Epoch
	look := up || full || s.read < s.sent || l.draining // there may be something to send
	l.mu.Unlock()
	if look {
		l.wake()
	}
}

// heeds reports whether an ack counts (H6). An ack from an earlier run of the neighbour counts
// only once the later run has been silent, or has said good-bye. An ack for another epoch of
// ours counts only until the neighbour's run has acknowledged this epoch. An ack from a run that
// has said good-bye is late and does not count. l.mu is held.
func (l *Link) heeds(now time.Time, a *Ack) bool {
	s := &l.send
	if l.saidBye(a.Epoch) {
		return false
	}
	switch {
	case a.Epoch == s.to:
		return a.Of == l.cfg.Epoch || !s.known
	case s.to == "":
		return true
	case a.Epoch < s.to && !l.saidBye(s.to) && now.Sub(l.health.out.heard) < l.patience():
		return false
	}
	return s.mayGoBack(now, l.cfg.Heartbeat)
}

// saidBye reports whether a run of the neighbour has said good-bye and was not heard since.
func (l *Link) saidBye(epoch string) bool {
	s := l.receive.find(epoch)
	return s != nil && s.gone
}

// mayGoBack reports whether an ack may move the cursor back again.
func (s *sender) mayGoBack(now time.Time, heartbeat time.Duration) bool {
	return now.Sub(s.wentBack) >= heartbeat
}

// goBack moves the cursor to the revision through which the neighbour says it holds our stream.
// l.mu is held.
func (l *Link) goBack(through uint64) {
	if l.send.cursor > through {
		l.count.rewinds.Add(1)
	}
	l.send.backTo(through)
}

// acknowledged removes the messages that an ack covers from flights; l.mu is held.
func (l *Link) acknowledged(now time.Time, through uint64) {
	s := &l.send
	s.acked = through
	if through > s.cursor { // the cursor went back further than needed
		s.cursor, s.read = through, max(s.read, through)
	}
	n := 0
	for n < len(s.flights) && s.flights[n].through <= through {
		n++
	}
	if n == 0 {
		return
	}
	// The ack was sent for the newest message that it covers.
	s.took(now.Sub(s.flights[n-1].at))
	s.flights = append(s.flights[:0], s.flights[n:]...)
}

// took adds a round trip to the average.
func (s *sender) took(trip time.Duration) {
	if s.roundTrip == 0 {
		s.roundTrip = trip
	}
	s.roundTrip += (trip - s.roundTrip) / 8
}
