package edge

import (
	"runtime/debug"
	"strings"
)

// release is set by the linker in images and releases: -ldflags "-X herd/edge.release=1.2.3".
var release string

// Version says which version this is, and which commit it was built from, where
// the Go command noted one.
func Version() (version, commit string) {
	version, commit = release, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return orDevel(version), commit
	}
	if version == "" && info.Main.Version != "(devel)" { // of a module that was installed by its version, or by a tag
		version = info.Main.Version
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
	return orDevel(version), commit
}

// orDevel names what was built from a checkout without a tag.
func orDevel(version string) string {
	if version == "" {
		return "devel"
	}
	return strings.TrimPrefix(version, "v")
}
