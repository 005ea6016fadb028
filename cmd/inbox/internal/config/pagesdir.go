package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resolvePages determines the directory of the pages. It must contain neither the state
// directory nor a file that an option names: their names and permissions alone would
// decide whether clients can read them. It needs the state directory.
func (r *resolver) resolvePages() error {
	o := r.o
	if o.public == "" || o.from["public"] == "" && !isPagesDir(o.public) {
		return nil
	}
	r.c.PagesDir = o.public
	if dir := r.c.StateDir; dir != "" && containsPath(o.public, dir) {
		return o.optionError("public", fmt.Errorf("contains the state directory %s, which holds secrets; "+
			"choose another directory for the pages or for -state", dir))
	}
	for _, file := range o.namedFiles() {
		if containsPath(o.public, file.path) {
			return o.optionError("public", fmt.Errorf("contains %s, the file of -%s; "+
				"move the file out of the directory of the pages", file.path, file.option))
		}
	}
	return nil
}

// isPagesDir reports whether dir is a directory other than the source of the built-in
// pages. In a clone of this repository, the embedded pages are served instead, with
// their content security policy.
func isPagesDir(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && !fileExists(filepath.Join(dir, "public.go"))
}

// namedFile is a file that an option names.
type namedFile struct{ option, path string }

// namedFiles returns the files that options name. The default certificate files count
// only if they exist.
func (o *Options) namedFiles() []namedFile {
	a := o.acme
	all := []namedFile{
		{"server-cert", o.serverCert}, {"server-key", o.serverKey}, {"config", o.file},
		{"acme-root", a.ca.RootsFile}, {"acme-eab-key", a.ca.EABKeyFile},
		{"acme-fallback-root", a.fallback.RootsFile}, {"acme-fallback-eab-key", a.fallback.EABKeyFile},
		{"store-file", o.store.file}, {"store-ca", o.store.ca}, {"store-key-file", o.store.keyFile},
	}
	if !isICEServerList(o.iceServers) {
		all = append(all, namedFile{"ice-servers", o.iceServers})
	}
	var named []namedFile
	for _, file := range all {
		if file.path != "" && (o.from[file.option] != "" || fileExists(file.path)) {
			named = append(named, file)
		}
	}
	return named
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// containsPath reports whether path is dir or lies below it, by its own location or, for
// a symbolic link, by that of its target. A path that does not exist yet counts as part
// of its closest parent that does.
func containsPath(dir, path string) bool {
	root, err := os.Stat(dir)
	if err != nil {
		return false // opening the directory reports the error
	}
	return isBelow(root, path) || isBelow(root, filepath.Dir(path))
}

// isBelow compares the directories rather than their names, because a file system can
// ignore case or mount one directory twice.
func isBelow(root fs.FileInfo, path string) bool {
	path, err := resolvePath(path)
	for err == nil {
		if info, err := os.Stat(path); err == nil && os.SameFile(root, info) {
			return true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false
		}
		path = parent
	}
	return false
}

// resolvePath returns the absolute path of the closest existing parent, or of path
// itself, without symbolic links.
func resolvePath(path string) (string, error) {
	path, err := filepath.Abs(path)
	for err == nil {
		var resolved string
		if resolved, err = filepath.EvalSymlinks(path); err == nil {
			return resolved, nil
		}
		if parent := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && parent != path {
			path, err = parent, nil
		}
	}
	return "", err
}
