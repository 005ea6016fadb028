// Package diskfull recognizes errors of a file system without space, and measures the
// space that is left. It does not free any.
package diskfull
