package flytoml

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// readServices reads http_service, then services, which is their order in a
// machine config.
func (r *reader) readServices() {
	if t := r.root.Table("http_service"); t != nil {
		r.c.services = append(r.c.services, r.readHTTPService(t))
	}
	for _, t := range r.root.Tables("services") {
		if t.Empty() {
			t.Warnf("", "is empty; remove it")
			continue
		}
		r.c.services = append(r.c.services, r.readService(t))
	}
	r.c.machineChecks = append(r.c.machineChecks, r.readMachineChecks(r.root, nil)...)
}

// readHTTPService reads http_service: a tcp service on 80 and 443.
func (r *reader) readHTTPService(t *tomldoc.Table) service {
	s := r.readCommonService(t)
	s.Protocol = "tcp"
	if t.Has("concurrency") {
		s.Concurrency = r.readLimits(t.Table("concurrency"))
	}
	http, https := 80, 443
	options := r.readHTTPOptions(t)
	s.Ports = []fly.MachinePort{
		{Port: &http, Handlers: []string{"http"}, ForceHTTPS: deref(t.Bool("force_https")), HTTPOptions: options},
		{Port: &https, Handlers: []string{"http", "tls"}, HTTPOptions: options, TLSOptions: r.readTLSOptions(t)},
	}
	for _, c := range t.List("checks") {
		// A bare number is nanoseconds here and milliseconds everywhere else.
		s.Checks = append(s.Checks, r.readHTTPCheck(c, time.Nanosecond))
	}
	return s
}

func (r *reader) readService(t *tomldoc.Table) service {
	s := r.readCommonService(t)
	s.Concurrency = r.readConcurrency(t)
	s.Protocol = t.String("protocol")
	switch {
	case !t.Has("protocol"):
		t.Warnf("protocol", "missing; write protocol = \"tcp\" or \"udp\"")
	case s.Protocol != "" && s.Protocol != "tcp" && s.Protocol != "udp":
		t.Errorf("protocol", "%q is not a protocol; use tcp or udp", s.Protocol)
	}
	for _, p := range t.Tables("ports") {
		s.Ports = append(s.Ports, r.readServicePort(p))
	}
	if len(s.Ports) == 0 {
		t.Warnf("ports", "missing; nothing outside reaches this service without [[services.ports]]")
	}
	for _, c := range t.Tables("tcp_checks") {
		s.Checks = append(s.Checks, r.readTCPCheck(c))
	}
	for _, c := range t.Tables("http_checks") {
		s.Checks = append(s.Checks, r.readHTTPCheck(c, time.Millisecond))
	}
	warnNoEffect(t, "script_checks")
	r.warnAddress(t, s)
	return s
}

func (r *reader) readCommonService(t *tomldoc.Table) service {
	s := service{path: t.Path()}
	s.InternalPort = r.readInternalPort(t)
	s.Autostop = r.readAutostop(t)
	s.Autostart = t.Bool("auto_start_machines")
	s.MinMachinesRunning = readNonNegative(t, "min_machines_running")
	s.processes = r.readProcessNames(t)
	if len(s.processes) == 0 && r.explicit {
		t.Errorf("processes", "missing; write the process groups that serve it: %s", strings.Join(r.c.groups, ", "))
	}
	r.c.machineChecks = append(r.c.machineChecks, r.readMachineChecks(t, s.processes)...)
	return s
}

func (r *reader) readInternalPort(t *tomldoc.Table) int {
	if !t.Has("internal_port") {
		t.Errorf("internal_port", "missing; write the port that the app listens on")
		return 0
	}
	return deref(readPort(t, "internal_port", t.Path() != "http_service"))
}

// readPort reads a port; old files have strings, accepted if text is set.
func readPort(t *tomldoc.Table, key string, text bool) *int {
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	var n *int
	if s, isText := v.(string); isText && text {
		i, err := strconv.Atoi(s)
		if err != nil {
			t.Errorf(key, "%.40q is not a port", s)
			return nil
		}
		n = &i
	} else {
		n = t.Int(key)
	}
	if n != nil && (*n < 1 || *n > 65535) {
		t.Errorf(key, "%d is not a port; use 1 to 65535", *n)
		return nil
	}
	return n
}

func (r *reader) readAutostop(t *tomldoc.Table) *fly.MachineAutostop {
	const key = "auto_stop_machines"
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	words := map[any]fly.MachineAutostop{
		false: fly.MachineAutostopOff, "off": fly.MachineAutostopOff,
		true: fly.MachineAutostopStop, "stop": fly.MachineAutostopStop,
		"suspend": fly.MachineAutostopSuspend,
	}
	switch v.(type) {
	case bool, string:
		if a, ok := words[v]; ok {
			return &a
		}
	}
	t.Errorf(key, "want \"off\", \"stop\" or \"suspend\"")
	return nil
}

func (r *reader) readConcurrency(t *tomldoc.Table) *fly.MachineServiceConcurrency {
	v, ok := t.Any("concurrency")
	if !ok {
		return nil
	}
	if s, ok := v.(string); ok { // "20,25": old form
		soft, hard, _ := strings.Cut(s, ",")
		low, err := strconv.Atoi(soft)
		high, err2 := strconv.Atoi(hard)
		if err != nil || err2 != nil {
			t.Errorf("concurrency", "%.40q is not \"soft,hard\"; better write soft_limit and hard_limit in a table", s)
			return nil
		}
		return &fly.MachineServiceConcurrency{Type: "requests", SoftLimit: low, HardLimit: high}
	}
	return r.readLimits(t.Table("concurrency"))
}

func (r *reader) readLimits(c *tomldoc.Table) *fly.MachineServiceConcurrency {
	if c == nil {
		return nil
	}
	out := &fly.MachineServiceConcurrency{
		Type:      c.String("type"),
		SoftLimit: deref(readNonNegative(c, "soft_limit")),
		HardLimit: deref(readNonNegative(c, "hard_limit")),
	}
	if out.Type != "" && out.Type != "connections" && out.Type != "requests" {
		c.Warnf("type", "Fly's reference doesn't have %q, only connections and requests", out.Type)
	}
	if out.HardLimit > 0 && out.SoftLimit > out.HardLimit {
		c.Warnf("soft_limit", "%d is more than the hard limit, %d, and never reached", out.SoftLimit, out.HardLimit)
	}
	return out
}

func (r *reader) readServicePort(t *tomldoc.Table) fly.MachinePort {
	p := fly.MachinePort{
		Port:        readPort(t, "port", true),
		StartPort:   readPort(t, "start_port", false),
		EndPort:     readPort(t, "end_port", false),
		Handlers:    t.Strings("handlers"),
		ForceHTTPS:  deref(t.Bool("force_https")),
		TLSOptions:  r.readTLSOptions(t),
		HTTPOptions: r.readHTTPOptions(t),
	}
	if o := t.Table("proxy_proto_options"); o != nil {
		p.ProxyProtoOptions = &fly.ProxyProtoOptions{Version: o.String("version")}
	}
	if !t.Has("port") && !t.Has("start_port") && !t.Has("end_port") {
		t.Errorf("port", "missing; write port, or start_port and end_port")
	}
	if p.StartPort != nil && p.EndPort != nil && *p.StartPort > *p.EndPort {
		t.Errorf("end_port", "%d is before start_port, %d", *p.EndPort, *p.StartPort)
	}
	for _, h := range p.Handlers {
		if !slices.Contains([]string{"http", "tls", "pg_tls", "proxy_proto", "edge_http"}, h) {
			t.Warnf("handlers", "Fly's reference doesn't have %q", h)
		}
	}
	return p
}

func (r *reader) readTLSOptions(t *tomldoc.Table) *fly.TLSOptions {
	o := t.Table("tls_options")
	if o == nil {
		return nil
	}
	return &fly.TLSOptions{ALPN: o.Strings("alpn"), Versions: o.Strings("versions"), DefaultSelfSigned: o.Bool("default_self_signed")}
}

func (r *reader) readHTTPOptions(t *tomldoc.Table) *fly.HTTPOptions {
	o := t.Table("http_options")
	if o == nil {
		return nil
	}
	out := &fly.HTTPOptions{
		Compress:           o.Bool("compress"),
		H2Backend:          o.Bool("h2_backend"),
		IdleTimeout:        readSeconds(o, "idle_timeout"),
		HeadersReadTimeout: readSeconds(o, "headers_read_timeout"),
	}
	if response := o.Table("response"); response != nil {
		out.Response = &fly.HTTPResponseOptions{Pristine: response.Bool("pristine")}
		if h := response.Table("headers"); h != nil {
			out.Response.Headers = map[string]any{}
			for _, name := range h.Keys() {
				out.Response.Headers[name], _ = h.Any(name)
			}
		}
	}
	for _, c := range o.List("replay_cache") {
		out.ReplayCache = append(out.ReplayCache, fly.ReplayCache{
			PathPrefix: c.String("path_prefix"), TTLSeconds: deref(c.Int("ttl_seconds")),
			Type: c.String("type"), Name: c.String("name"), AllowBypass: deref(c.Bool("allow_bypass")),
		})
	}
	return out
}

func readSeconds(t *tomldoc.Table, key string) *uint32 {
	n := readNonNegative(t, key)
	if n == nil {
		return nil
	}
	s := uint32(*n)
	return &s
}

// readHeaders reads the headers of a check. With old, they may be a list with
// name and value, and values may be numbers.
func readHeaders(t *tomldoc.Table, old bool) (out []fly.MachineHTTPHeader) {
	all := map[string]string{}
	switch v, ok := t.Any("headers"); {
	case !ok:
	case isTable(v) || !old:
		h := t.Table("headers")
		if h == nil {
			return nil
		}
		for _, name := range h.Keys() {
			if old {
				all[name] = readText(h, name)
			} else {
				all[name] = h.String(name)
			}
		}
	default:
		for _, h := range t.Tables("headers") {
			if !h.Has("name") {
				h.Errorf("name", "missing; write the header's name")
			}
			all[readText(h, "name")] = readText(h, "value")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fly.MachineHTTPHeader{Name: name, Values: []string{all[name]}})
	}
	return out
}
