package edge

import "runtime/debug"

// release is the version of the source: of the next release, until there is one.
const release = "0.1.0"

// Version says which version this is, and which commit it was built from, where
// the Go command noted one.
func Version() (version, commit string) {
	commit = "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release, commit
	}
	changed := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if changed {
		commit += "+changes"
	}
	return release, commit
}
