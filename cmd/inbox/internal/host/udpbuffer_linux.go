package host

import (
	"encoding/binary"
	"syscall"
)

// Sizes and values of linux/inet_diag.h and linux/sock_diag.h.
const (
	sockDiagByFamily  = 20
	diagRequestBytes  = 56 // struct inet_diag_req_v2
	diagResponseBytes = 72 // struct inet_diag_msg
	diagMemory        = 7  // INET_DIAG_SKMEMINFO
	diagMemoryBuffer  = 1  // SK_MEMINFO_RCVBUF
	diagResponsePort  = 4  // offset of the local port
	attributeHeader   = 4
	maxDiagReads      = 100
)

// UDPReceiveBuffer returns the size of the receive buffer of a UDP port in bytes, as
// SetReadBuffer sets it, also if the socket belongs to another process; the smallest one if
// several sockets use the port. It returns false if it is unknown: if no socket uses the port,
// or the kernel has no udp_diag.
func UDPReceiveBuffer(port uint16) (bytes int, known bool) {
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		for _, size := range udpBuffers(family, port) {
			if !known || size < bytes {
				bytes, known = size, true
			}
		}
	}
	return bytes, known
}

// udpBuffers asks the kernel for the sockets of an address family.
func udpBuffers(family byte, port uint16) (sizes []int) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, syscall.NETLINK_INET_DIAG)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	timeout := syscall.Timeval{Sec: 1}
	if syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout) != nil ||
		syscall.Sendto(fd, udpDiagRequest(family, port), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}) != nil {
		return nil
	}
	buf := make([]byte, 64<<10)
	for range maxDiagReads {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil
		}
		for _, m := range messages {
			if m.Header.Type != sockDiagByFamily {
				return sizes // done, or an error
			}
			if size, ok := bufferOf(m.Data, port); ok {
				sizes = append(sizes, size)
			}
		}
	}
	return nil
}

// udpDiagRequest asks for all UDP sockets of a port, with their memory.
func udpDiagRequest(family byte, port uint16) []byte {
	const size = syscall.NLMSG_HDRLEN + diagRequestBytes
	b := binary.NativeEndian.AppendUint32(nil, size)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, syscall.NLM_F_REQUEST|syscall.NLM_F_DUMP)
	b = append(b, make([]byte, 8)...) // sequence number, process
	b = append(b, family, syscall.IPPROTO_UDP, 1<<(diagMemory-1), 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // all states
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, make([]byte, size-len(b))...) // any peer, address and interface
}

// bufferOf returns the receive buffer of the socket that a response describes.
func bufferOf(response []byte, port uint16) (bytes int, ok bool) {
	if len(response) < diagResponseBytes || binary.BigEndian.Uint16(response[diagResponsePort:]) != port {
		return 0, false
	}
	for b := response[diagResponseBytes:]; len(b) >= attributeHeader; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < attributeHeader || size > len(b) {
			break
		}
		if value := b[attributeHeader:size]; kind == diagMemory && len(value) >= 4*(diagMemoryBuffer+1) {
			return int(binary.NativeEndian.Uint32(value[4*diagMemoryBuffer:])) / 2, true // the kernel doubles it
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return 0, false
}
