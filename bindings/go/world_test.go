package weirgate

import "net/netip"

func mac(group, number byte) MAC {
	return MAC{2, 0, 0, 0, group, number}
}

// world is the world of the vectors, as vectors.rs describes it in the core's words.
func world() Description {
	vxlan := func(subnet, public string, node byte) Peer {
		vtep := mac(3, node)
		return Peer{
			Subnet:  netip.MustParsePrefix(subnet),
			Public:  netip.MustParseAddr(public),
			VTEP:    &vtep,
			NextHop: &NextHop{Port: 1, MAC: mac(2, node)},
		}
	}
	backend := func(endpoint string, weight uint32) Backend {
		return Backend{Endpoint: netip.MustParseAddrPort(endpoint), Weight: weight}
	}

	d := Defaults()
	d.Generation = 7
	d.SelectorSeed = 42
	d.OverlayMTU = 1400
	d.Timeouts.TCPEstablishedSeconds = 3600
	d.Timeouts.TCPResetSeconds = 11
	d.Timeouts.SCTPClosedSeconds = 12
	d.NodePortFirst, d.NodePortLast = 30000, 31000
	d.Masquerade = []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:7::7")}
	d.MasqueradePortFirst, d.MasqueradePortLast = 2000, 60000
	d.NonMasquerade = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd77::/48")}
	d.Local = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}
	d.MSS = MSSOfPath
	d.OuterDSCP = OuterDSCPCopy
	d.HalfOpenPerClient = 100
	d.NewFlowsPerSecond = 2000
	d.EchoesPerSecond = 50
	d.PlacePastLimit = true
	d.VTEPv4 = &VTEP{Public: netip.MustParseAddr("10.99.0.50"), MAC: mac(4, 1)}
	d.VTEPv6 = &VTEP{Public: netip.MustParseAddr("fd99::50"), MAC: mac(4, 2)}
	d.Subnets = []netip.Prefix{netip.MustParsePrefix("10.77.200.0/24"), netip.MustParsePrefix("fd77:0:0:200::/64")}
	d.Pool = []netip.Addr{
		netip.MustParseAddr("10.77.200.2"),
		netip.MustParseAddr("10.77.200.3"),
		netip.MustParseAddr("fd77:0:0:200::2"),
	}
	d.Ports = []Port{{MAC: mac(0, 1), MTU: 1500}, {MAC: mac(0, 2), MTU: 1500}}
	d.Peers = []Peer{
		vxlan("10.77.74.0/24", "10.99.0.11", 1),
		vxlan("10.77.4.0/24", "fd99::12", 2),
		vxlan("fd77:0:0:74::/64", "fd99::11", 1),
		{Subnet: netip.MustParsePrefix("10.77.9.0/24"), Public: netip.MustParseAddr("10.99.0.13")},
	}
	expedited := uint8(46)
	d.Services = []Service{
		{
			ID:        1,
			Protocol:  TCP,
			TableSize: 1009,
			Frontends: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:30080"),
				netip.MustParseAddrPort("[2001:db8:1::1]:30080"),
			},
			Backends: []Backend{
				backend("10.77.74.10:80", 1),
				backend("10.77.4.10:80", 2),
				backend("[fd77:0:0:74::a]:80", 1),
			},
		},
		{
			ID:        2,
			Protocol:  UDP,
			TableSize: 251,
			Frontends: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:30053")},
			Backends:  []Backend{backend("10.77.9.10:53", 1)},
			DSCP:      &expedited,
		},
		{
			ID:         3,
			Protocol:   SCTP,
			TableSize:  7,
			KeepClient: true,
			Frontends:  []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:30132")},
			Backends:   []Backend{backend("10.77.74.10:132", 1)},
		},
	}
	d.Routes = []Route{
		{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254")},
		{Prefix: netip.MustParsePrefix("2001:db8:1::/64")},
		{Prefix: netip.MustParsePrefix("198.18.0.0/15"), Nowhere: true},
	}
	d.Neighbours = []Neighbour{
		{Address: netip.MustParseAddr("192.0.2.10"), MAC: mac(1, 1)},
		{Address: netip.MustParseAddr("2001:db8:1::10"), MAC: mac(1, 1)},
	}
	return d
}
