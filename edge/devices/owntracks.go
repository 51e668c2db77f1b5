package devices

import "bytes"

// ownTracks says whether a request is OwnTracks' though its body does not tell: by its headers, or by
// a query that says who it is and nothing else.
func (in *input) ownTracks() bool {
	if len(in.user)+len(in.device) > 0 {
		return true
	}
	user, device := in.queried()
	return len(user)+len(device) > 0
}

// queried returns u and d of the query.
func (in *input) queried() (user, device []byte) {
	for pair := range bytes.SplitSeq(in.query, []byte("&")) {
		switch name, value, _ := bytes.Cut(pair, []byte("=")); string(name) {
		case "u":
			user = unescape(value)
		case "d":
			device = unescape(value)
		}
	}
	return user, device
}

// ownTracksID appends the id of an OwnTracks device (V6): user/device, each from the headers, or
// else the query, or else the topic owntracks/user/device. Where no user is named, it is the one
// who logged in.
func (in *input) ownTracksID(dst, topic []byte) []byte {
	user, device := in.user, in.device
	queriedUser, queriedDevice := in.queried()
	var topicUser, topicDevice []byte
	if rest, ok := bytes.CutPrefix(topic, []byte("owntracks/")); ok {
		topicUser, topicDevice, _ = bytes.Cut(rest, []byte("/"))
		topicDevice, _, _ = bytes.Cut(topicDevice, []byte("/"))
	}
	user = firstOf(user, queriedUser, topicUser)
	device = firstOf(device, queriedDevice, topicDevice)
	if len(user) == 0 && len(device) > 0 {
		user = in.authenticated
	}
	dst = append(dst, user...)
	if len(user) > 0 && len(device) > 0 {
		dst = append(dst, '/')
	}
	return append(dst, device...)
}

func firstOf(texts ...[]byte) []byte {
	for _, text := range texts {
		if len(text) > 0 {
			return text
		}
	}
	return nil
}
