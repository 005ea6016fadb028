//go:build !unix

package main

// maxFiles is how many files the process may have open; 0 when unknown.
func maxFiles() int64 { return 0 }
