package weirgate

import "net/netip"

func mac(group, number byte) MAC {
	return MAC{2, 0, 0, 0, group, number}
}

// Ports that have no bit in common, and one that has nothing but a route and a neighbour.
const (
	uplink   = 9
	underlay = 6
	other    = 4
)

// world is the world of the vectors, as vectors/world.rs describes it in the core's words.
func world() Description {
	peer := func(subnet, public string) Peer {
		return Peer{Subnet: netip.MustParsePrefix(subnet), Public: netip.MustParseAddr(public)}
	}
	vxlan := func(subnet, public string, node byte) Peer {
		p, vtep := peer(subnet, public), mac(3, node)
		p.VTEP, p.NextHop = &vtep, &NextHop{Port: underlay, MAC: mac(2, node)}
		return p
	}
	direct := peer("10.77.10.0/24", "10.99.0.14")
	direct.NextHop = &NextHop{Port: underlay, MAC: mac(2, 5)}
	backend := func(endpoint string, weight uint32) Backend {
		return Backend{Endpoint: netip.MustParseAddrPort(endpoint), Weight: weight}
	}

	d := Defaults()
	d.Generation = 7
	d.Workers = 3
	d.VNI = 0x012345
	d.SelectorSeed = 0x0123456789abcdef
	d.OverlayMTU = 1399
	d.Timeouts = Timeouts{
		TCPSynSentSeconds:           103,
		TCPSynReceivedSeconds:       107,
		TCPEstablishedSeconds:       7451,
		TCPFinWaitSeconds:           109,
		TCPCloseWaitSeconds:         113,
		TCPLastAckSeconds:           127,
		TCPTimeWaitSeconds:          131,
		TCPResetSeconds:             137,
		TCPSynSent2Seconds:          139,
		UDPSeconds:                  149,
		UDPStreamSeconds:            151,
		ICMPSeconds:                 157,
		SCTPCookieWaitSeconds:       163,
		SCTPCookieEchoedSeconds:     167,
		SCTPEstablishedSeconds:      173,
		SCTPShutdownSentSeconds:     179,
		SCTPShutdownReceivedSeconds: 181,
		SCTPShutdownAckSentSeconds:  191,
		SCTPClosedSeconds:           193,
	}
	d.PoolPortFirst, d.PoolPortLast = 1031, 64997
	d.NodePortFirst, d.NodePortLast = 30011, 31013
	d.Masquerade = []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:7::7")}
	d.MasqueradePortFirst, d.MasqueradePortLast = 2003, 59999
	d.NonMasquerade = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd77::/48")}
	d.Local = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}
	d.MSS = 1361
	d.OuterDSCP = 37
	d.HalfOpenPerClient = 101
	d.NewFlowsPerSecond = 2011
	d.EchoesPerSecond = 53
	d.EchoServices = true
	d.StatelessPastLimit = true
	d.VTEPv4 = &VTEP{Public: netip.MustParseAddr("10.99.0.50"), MAC: mac(4, 1)}
	d.VTEPv6 = &VTEP{Public: netip.MustParseAddr("fd99::50"), MAC: mac(4, 2)}
	d.Subnets = []netip.Prefix{
		netip.MustParsePrefix("10.77.200.0/24"),
		netip.MustParsePrefix("fd77:0:0:200::/64"),
		netip.MustParsePrefix("10.77.202.0/24"),
	}
	d.Pool = []netip.Addr{
		netip.MustParseAddr("10.77.200.2"),
		netip.MustParseAddr("10.77.200.3"),
		netip.MustParseAddr("fd77:0:0:200::2"),
	}
	for i, mtu := range []uint16{1423, 1427, 1429, 1433, 1439, 1447, 1499, 1451, 1453, 1511, 1459} {
		d.Ports = append(d.Ports, Port{MAC: mac(0, byte(10+i)), MTU: mtu})
	}
	d.Ports[uplink].MAC, d.Ports[underlay].MAC = mac(0, 1), mac(0, 2)
	d.Peers = []Peer{
		vxlan("10.77.74.0/24", "10.99.0.11", 1),
		vxlan("10.77.4.0/24", "fd99::12", 2),
		vxlan("fd77:0:0:74::/64", "fd99::11", 3),
		peer("10.77.9.0/24", "10.99.0.13"),
		direct,
	}
	expedited := uint8(46)
	d.Services = []Service{
		{
			ID:        11,
			Protocol:  TCP,
			TableSize: 1009,
			Frontends: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:30080"),
				netip.MustParseAddrPort("[2001:db8:1::1]:30083"),
			},
			Backends: []Backend{
				backend("10.77.74.10:8081", 3),
				backend("10.77.4.10:8083", 5),
				backend("[fd77:0:0:74::a]:8087", 2),
			},
		},
		{
			ID:        13,
			Protocol:  UDP,
			TableSize: 251,
			Frontends: []netip.AddrPort{
				netip.MustParseAddrPort("192.0.2.1:30053"),
				netip.MustParseAddrPort("203.0.113.77:5387"),
			},
			Backends: []Backend{backend("10.77.9.10:5381", 7)},
			DSCP:     &expedited,
		},
		{
			ID:             17,
			Protocol:       SCTP,
			TableSize:      19,
			PreserveClient: true,
			Frontends:      []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:30132")},
			Backends:       []Backend{backend("10.77.74.10:13203", 11)},
		},
	}
	d.Routes = []Route{
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Port: uplink},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254"), Port: uplink},
		{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), Port: uplink},
		{Prefix: netip.MustParsePrefix("198.18.0.0/15"), Nowhere: true},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Port: other},
	}
	d.Neighbours = []Neighbour{
		{Address: netip.MustParseAddr("192.0.2.10"), MAC: mac(1, 1), Port: uplink},
		{Address: netip.MustParseAddr("2001:db8:1::10"), MAC: mac(1, 3), Port: uplink},
		{Address: netip.MustParseAddr("203.0.113.9"), MAC: mac(1, 5), Port: other},
	}
	return d
}
