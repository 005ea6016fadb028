//go:build !linux

package host

// UDPReceiveBuffer returns false: the size is unknown.
func UDPReceiveBuffer(uint16) (bytes int, known bool) { return 0, false }
