package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// usesEmbeddedPages reports whether the server serves the embedded pages instead of a
// directory.
func (c *config) usesEmbeddedPages() bool {
	return c.public == "" || c.from["public"] == "" && !isPagesDir(c.public)
}

// checkPagesDir returns an error if the directory of the pages contains the state
// directory or a file that an option names. Their names and permissions alone would
// decide whether strangers can read them.
func (c *config) checkPagesDir(environ []string) error {
	if c.usesEmbeddedPages() {
		return nil
	}
	if dir, err := chooseStateDir(c.state, environ); err == nil && containsPath(c.public, dir) {
		return c.optionError("public", fmt.Errorf("contains the state directory %s, which holds secrets; "+
			"choose another directory for the pages or for -state", dir))
	}
	for _, file := range c.namedFiles() {
		if containsPath(c.public, file.path) {
			return c.optionError("public", fmt.Errorf("contains %s, the file of -%s; "+
				"move the file out of the directory of the pages", file.path, file.option))
		}
	}
	return nil
}

// namedFile is a file that an option names.
type namedFile struct{ option, path string }

// namedFiles returns the files that options name. The default certificate files count
// only if they exist.
func (c *config) namedFiles() []namedFile {
	a := c.acme
	all := []namedFile{
		{"server-cert", c.serverCert}, {"server-key", c.serverKey}, {"config", c.file},
		{"acme-root", a.ca.root}, {"acme-eab-key", a.ca.keyFile},
		{"acme-ca2-root", a.second.root}, {"acme-ca2-eab-key", a.second.keyFile},
		{"store-file", c.store.file}, {"store-ca", c.store.ca}, {"store-key-file", c.store.keyFile},
	}
	if !isICEServerList(c.iceServers) {
		all = append(all, namedFile{"ice-servers", c.iceServers})
	}
	var named []namedFile
	for _, file := range all {
		if file.path != "" && (c.from[file.option] != "" || fileExists(file.path)) {
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
