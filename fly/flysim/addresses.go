package flysim

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// An ipAddress is a public or private address of an app.
type ipAddress struct {
	IP        string    `json:"ip"`
	Region    string    `json:"region"`
	Service   string    `json:"service_name"`
	Shared    bool      `json:"shared"`
	CreatedAt time.Time `json:"created_at"`
	Kind      string    `json:"type,omitempty"`
}

func (s *Sim) listAddresses(c *call) (any, error) {
	return map[string]any{"ips": append([]ipAddress{}, c.app.IPs...)}, nil
}

func (s *Sim) createAddress(c *call) (any, error) {
	var in struct {
		Type   string `json:"type"`
		Region string `json:"region"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	return s.assignAddress(c.app, in.Type, in.Region)
}

// isPublic reports whether an app has an address reachable from the internet.
func (s *Sim) isPublic(name string) bool {
	a := s.state.Apps[name]
	return a != nil && slices.ContainsFunc(a.IPs, func(ip ipAddress) bool { return ip.Kind != "private_v6" })
}

// assignAddress adds an address of the given kind to an app. An app has at most
// one shared address: a second call returns the first.
func (s *Sim) assignAddress(a *app, kind, region string) (any, error) {
	ip := ipAddress{Region: region, CreatedAt: s.now(), Kind: kind}
	switch kind {
	case "shared_v4":
		if i := slices.IndexFunc(a.IPs, func(ip ipAddress) bool { return ip.Shared }); i >= 0 {
			return a.IPs[i], nil
		}
		ip.IP, ip.Shared = "66.241.124.1", true
	case "v4":
		ip.IP = "137.66." + s.newOctet() + "." + s.newOctet()
	case "private_v6":
		ip.IP = "fdaa:0:1:0:1::" + s.newID("v6", 4)
	case "v6":
		ip.IP = "2a09:8280:1::" + s.newID("v6", 4)
	default:
		return nil, newAPIError(http.StatusBadRequest, "invalid type %q of address", kind)
	}
	a.IPs = append(a.IPs, ip)
	s.unsaved = true
	return ip, nil
}

func (s *Sim) deleteAddress(c *call) (any, error) {
	if !s.removeAddress(c.app, c.r.PathValue("ip")) {
		return nil, newAPIError(http.StatusNotFound, "address not found")
	}
	return okReply(), nil
}

// removeAddress removes an address and reports whether the app had it.
func (s *Sim) removeAddress(a *app, address string) bool {
	n := len(a.IPs)
	a.IPs = slices.DeleteFunc(a.IPs, func(ip ipAddress) bool { return ip.IP == address })
	s.unsaved = s.unsaved || len(a.IPs) < n
	return len(a.IPs) < n
}

func (s *Sim) newOctet() string {
	s.state.Seq++
	return strconv.FormatUint(1+s.state.Seq%250, 10)
}

// regionList has some of Fly's regions: code, name and continent.
var regionList = [][3]string{{"ams", "Amsterdam", "europe"}, {"cdg", "Paris", "europe"}, {"fra", "Frankfurt", "europe"},
	{"iad", "Ashburn", "north_america"}, {"lhr", "London", "europe"}, {"nrt", "Tokyo", "asia_pacific"}, {"ord", "Chicago", "north_america"},
	{"sin", "Singapore", "asia_pacific"}, {"sjc", "San Jose", "north_america"}, {"syd", "Sydney", "asia_pacific"}}

func (s *Sim) listRegions(*call) (any, error) {
	list := []any{}
	for _, r := range regionList {
		list = append(list, map[string]any{"code": r[0], "name": r[1], "geo_region": r[2], "gateway_available": true, "requires_paid_plan": false})
	}
	return map[string]any{"Regions": list, "Nearest": "fra"}, nil
}

func (s *Sim) listPlacements(c *call) (any, error) {
	var in struct {
		Region string `json:"region"`
		Count  int    `json:"count"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	n := cmp.Or(in.Count, 100)
	return map[string]any{"Regions": []any{map[string]any{"Region": cmp.Or(in.Region, "fra"), "Count": n, "Concurrency": n}}}, nil
}
