package edge

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A port is a TCP address that is bound but not open: until open, a client that
// connects is refused, as H7 wants it. Who listens there already shows at once; who begins
// to listen there meanwhile, which the system allows, shows when it opens.
type port struct {
	file  *os.File
	given net.Listener // in place of file
	addr  net.Addr
}

// givenPort is a port that was made elsewhere, and is open as soon as somebody accepts.
func givenPort(ln net.Listener) *port { return &port{given: ln, addr: ln.Addr()} }

// reservePort takes a TCP address, host:port; port 0 is any free one.
func reservePort(address string) (*port, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(nil)
	if ip4 := addr.IP.To4(); ip4 != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip4)}
	} else {
		sa6 := &unix.SockaddrInet6{Port: addr.Port}
		copy(sa6.Addr[:], addr.IP)
		if addr.Zone != "" {
			ifi, err := net.InterfaceByName(addr.Zone)
			if err != nil {
				return nil, err
			}
			sa6.ZoneId = uint32(ifi.Index)
		}
		sa = sa6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil && addr.IP == nil { // any address, on a machine without IPv6
		sa = &unix.SockaddrInet4{Port: addr.Port}
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	p := &port{file: os.NewFile(uintptr(fd), "port "+address)}
	if err := p.bind(fd, sa); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return p, nil
}

func (p *port) bind(fd int, sa unix.Sockaddr) (err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	// A restart must not wait for what is left of the last run's connections.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if sa6, ok := sa.(*unix.SockaddrInet6); ok {
		v6only := 1
		if sa6.Addr == [16]byte{} {
			v6only = 0 // any address is any IPv4 address too
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch got := got.(type) {
	case *unix.SockaddrInet4:
		p.addr = &net.TCPAddr{IP: got.Addr[:], Port: got.Port}
	case *unix.SockaddrInet6:
		p.addr = &net.TCPAddr{IP: got.Addr[:], Port: got.Port}
	}
	return nil
}

// open lets clients in.
func (p *port) open() (net.Listener, error) {
	if p.given != nil {
		return p.given, nil // whom it serves closes it
	}
	defer p.close()
	fd := int(p.file.Fd())
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p.addr, os.NewSyscallError("listen", err))
	}
	ln, err := net.FileListener(p.file) // a copy of the descriptor
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p.addr, err)
	}
	return ln, nil
}

func (p *port) close() {
	if p.given != nil {
		_ = p.given.Close()
		return
	}
	_ = p.file.Close()
}
