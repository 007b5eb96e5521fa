package driver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const dialTimeout = 5 * time.Second

// publicClient returns the client for probes. It reaches public addresses, and literal
// addresses as in the URL of a simulated Fly.
var publicClient = sync.OnceValue(func() *http.Client {
	var proxies sync.Map // host:port of the proxies in the environment
	guarded := &net.Dialer{Timeout: dialTimeout, Control: refuseInternal}
	direct := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		DisableKeepAlives: true,
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := http.ProxyFromEnvironment(req)
			if u != nil {
				proxies.Store(u.Host, true)
			}
			return u, err
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, isProxy := proxies.Load(address)
			if _, err := netip.ParseAddrPort(address); err == nil || isProxy {
				return direct.DialContext(ctx, network, address)
			}
			return guarded.DialContext(ctx, network, address)
		},
	}
	return &http.Client{Transport: transport, Timeout: probeTimeout}
})

// refuseInternal returns an error for an address that is not public.
func refuseInternal(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || isInternal(addr.Addr().Unmap()) {
		return fmt.Errorf("%s is not a public address: a probe does not reach it", address)
	}
	return nil
}

// isInternal reports whether an address is not on the public internet.
func isInternal(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified() || !ip.IsGlobalUnicast()
}
