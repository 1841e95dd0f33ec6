package weirgate

// #include <stdlib.h>
// #include <weirgate.h>
import "C"

import (
	"net/netip"
	"unsafe"
)

// A MAC is an Ethernet link address.
type MAC [6]byte

// A Description is everything that a snapshot is compiled from. Begin with Defaults.
type Description struct {
	// Generation grows with each snapshot of one gateway.
	Generation uint32
	// Workers share the flows: 1 to WorkersMax.
	Workers uint8
	// VNI is the VXLAN network: 24 bits.
	VNI uint32
	// VXLANPort is the UDP port of VXLAN.
	VXLANPort uint16
	// VTEPv4 and VTEPv6 are the gateway's VTEPs, nil where there is none.
	VTEPv4, VTEPv6 *VTEP
	// OverlayMTU is the largest packet inside VXLAN; 0 for what fits the links' MTUs.
	OverlayMTU uint16
	// Subnets are the gateway's own overlay subnets, whose addresses nobody else uses.
	Subnets []netip.Prefix
	// Pool is the SNAT pool: addresses inside the subnets, never their first,
	// that backends see instead of clients'.
	Pool []netip.Addr
	// PoolPortFirst and PoolPortLast are the range of ports for SNAT on pool addresses.
	PoolPortFirst, PoolPortLast uint16
	// NodePortFirst and NodePortLast are a range of ports that is not used for
	// masquerade on addresses at which services listen.
	NodePortFirst, NodePortLast uint16
	// Masquerade holds the masquerade addresses, which serve nothing else;
	// without any, no pod's packet leaves.
	Masquerade []netip.Addr
	// MasqueradePortFirst and MasqueradePortLast are the range of ports, and of
	// echo identifiers, on them.
	MasqueradePortFirst, MasqueradePortLast uint16
	// NonMasquerade are destinations to which no pod's packet leaves.
	NonMasquerade []netip.Prefix
	// Local are the gateway's own addresses on its links: nobody else sends from them.
	Local []netip.Addr
	// MSS is the limit on TCP's segment sizes: MSSOff, MSSOfPath, or a number
	// of bytes, 536 or more.
	MSS uint16
	// OuterDSCP is the codepoint of VXLAN's outer headers, or OuterDSCPCopy.
	OuterDSCP uint8
	// HalfOpenPerClient is the most half-open flows of one client, once the table fills; 0 for no limit.
	HalfOpenPerClient uint32
	// NewFlowsPerSecond is the most of each worker; 0 for no limit.
	NewFlowsPerSecond uint32
	// StatelessPastLimit forwards packets that would create a flow past that limit
	// statelessly, where replies can be translated back without a flow,
	// instead of dropping them.
	StatelessPastLimit bool
	// EchoServices answers pings of services' addresses, except of those in
	// Local and the VTEPs'.
	EchoServices bool
	// EchoesPerSecond is the most pings that each worker answers; 0 for no limit.
	EchoesPerSecond uint32
	// SelectorSeed is equal on all gateways that are to select the same backends.
	SelectorSeed uint64
	// Timeouts are the idle timeouts of flows.
	Timeouts Timeouts
	// Ports are the gateway's links; a port's number is its index here.
	Ports []Port
	// Peers are the other members of the overlay.
	Peers []Peer
	// Services in any order.
	Services []Service
	// Routes are the routes to clients, in any order.
	Routes []Route
	// Neighbours are those on the gateway's own links.
	Neighbours []Neighbour
}

const (
	// MSSOff leaves segment sizes as they are.
	MSSOff = C.WEIRGATE_MSS_OFF
	// MSSOfPath lowers them to what fits the smaller MTU of the two paths.
	MSSOfPath = C.WEIRGATE_MSS_OF_PATH
	// OuterDSCPCopy copies the codepoint of the packet inside to VXLAN's outer header.
	OuterDSCPCopy = C.WEIRGATE_OUTER_DSCP_COPY
)

// A VTEP is one end of a VXLAN overlay.
type VTEP struct {
	// Public is the underlay address that peers send to.
	Public netip.Addr
	// MAC is the inner link address that peers send to.
	MAC MAC
}

// Timeouts are idle timeouts in seconds.
type Timeouts struct {
	// TCPSynSentSeconds: TCP after the client's SYN.
	TCPSynSentSeconds uint32
	// TCPSynReceivedSeconds: TCP after the server's answer to the SYN, until the client acknowledges that answer.
	TCPSynReceivedSeconds uint32
	// TCPEstablishedSeconds: TCP while open.
	TCPEstablishedSeconds uint32
	// TCPFinWaitSeconds: TCP after one side's FIN, until the other side acknowledges it; never longer than while open.
	TCPFinWaitSeconds uint32
	// TCPCloseWaitSeconds: TCP after one side's FIN was acknowledged: the other side may go on sending.
	TCPCloseWaitSeconds uint32
	// TCPLastAckSeconds: TCP after both sides' FINs.
	TCPLastAckSeconds uint32
	// TCPTimeWaitSeconds: TCP after the last acknowledgement.
	TCPTimeWaitSeconds uint32
	// TCPResetSeconds: TCP after a reset, until packets show that the connection is alive.
	TCPResetSeconds uint32
	// TCPSynSent2Seconds: TCP after a SYN of both sides.
	TCPSynSent2Seconds uint32
	// UDPSeconds: UDP until the client has sent again after a reply.
	UDPSeconds uint32
	// UDPStreamSeconds: UDP from then on.
	UDPStreamSeconds uint32
	// ICMPSeconds: echo requests and their replies.
	ICMPSeconds uint32
	// SCTPCookieWaitSeconds: SCTP after the client's INIT.
	SCTPCookieWaitSeconds uint32
	// SCTPCookieEchoedSeconds: SCTP after the client's cookie.
	SCTPCookieEchoedSeconds uint32
	// SCTPEstablishedSeconds: SCTP while open.
	SCTPEstablishedSeconds uint32
	// SCTPShutdownSentSeconds: SCTP that the client shuts down.
	SCTPShutdownSentSeconds uint32
	// SCTPShutdownReceivedSeconds: SCTP that the server shuts down.
	SCTPShutdownReceivedSeconds uint32
	// SCTPShutdownAckSentSeconds: SCTP whose shutdown was acknowledged.
	SCTPShutdownAckSentSeconds uint32
	// SCTPClosedSeconds: SCTP after its end.
	SCTPClosedSeconds uint32
}

// A Port is one of the gateway's links.
type Port struct {
	// MAC is the port's own link address.
	MAC MAC
	// MTU is the largest IP packet that can be sent here.
	MTU uint16
}

// A Peer is another member of the overlay, and how to reach it.
type Peer struct {
	// Subnet holds the pods behind it.
	Subnet netip.Prefix
	// Public is the underlay address that packets for it go to.
	Public netip.Addr
	// VTEP is the inner link address that VXLAN goes to; nil where packets go
	// to the next hop unencapsulated.
	VTEP *MAC
	// NextHop leads to the public address; nil while it is not known.
	NextHop *NextHop
}

// A NextHop is a neighbour on one of the gateway's links.
type NextHop struct {
	// Port of the link.
	Port uint8
	// MAC of the neighbour.
	MAC MAC
	// MTU is the largest packet that the route to the peer takes, where that
	// is less than what the link takes; 0 where it is not.
	MTU uint16
}

// A Service is its frontends and its backends.
type Service struct {
	// ID stays the same while the service exists, and identifies its counters.
	ID uint32
	// Protocol is TCP, UDP or SCTP.
	Protocol uint8
	// TableSize is the number of slots of its selector's table: a prime,
	// TableSize unless there is a reason.
	TableSize uint32
	// PreserveClient preserves the client's address instead of SNAT to a pool address.
	PreserveClient bool
	// ResetRemovedBackend answers who sends a segment of an open TCP connection
	// to a backend that was removed with a reset; else such connections go on.
	ResetRemovedBackend bool
	// DSCP is the codepoint of its packets towards backends, at most 63; nil
	// to preserve the client's.
	DSCP *uint8
	// Frontends are where clients reach it.
	Frontends []netip.AddrPort
	// Backends answer, in any order.
	Backends []Backend
}

// A Backend is one of a service.
type Backend struct {
	// Endpoint is where it listens.
	Endpoint netip.AddrPort
	// Weight is its share relative to the others; with 0 it gets no new flow.
	Weight uint32
}

// A Route leads to clients.
type Route struct {
	// Prefix holds the destinations.
	Prefix netip.Prefix
	// Via is the router; the zero Addr where the destinations are on the link itself.
	Via netip.Addr
	// Port of the link.
	Port uint8
	// Nowhere says that the gateway cannot send there; Via and Port do not count.
	Nowhere bool
	// MTU is the largest packet that it takes, where that is less than what
	// its link takes; 0 where it is not. Less than 576 (IPv4) or 1280 (IPv6)
	// counts as that.
	MTU uint16
}

// A Neighbour is a host or router on a link, whose link address is known.
type Neighbour struct {
	// Address of the neighbour.
	Address netip.Addr
	// MAC of the neighbour.
	MAC MAC
	// Port of the link.
	Port uint8
}

// Defaults returns a description with nothing but defaults: one worker, VXLAN
// network 1 at UDP port 8472, pool ports 1024 to 65535, and the usual timeouts.
func Defaults() Description {
	var raw C.weirgate_description
	if err := answer(C.weirgate_description_defaults(&raw)); err != nil {
		panic(err) // The one argument is there.
	}
	return numbersOf(&raw)
}

// numbersOf returns the fields that are neither an address nor a list.
func numbersOf(raw *C.weirgate_description) Description {
	return Description{
		Generation:          uint32(raw.generation),
		Workers:             uint8(raw.workers),
		VNI:                 uint32(raw.vni),
		VXLANPort:           uint16(raw.vxlan_port),
		OverlayMTU:          uint16(raw.overlay_mtu),
		PoolPortFirst:       uint16(raw.pool_port_first),
		PoolPortLast:        uint16(raw.pool_port_last),
		NodePortFirst:       uint16(raw.node_port_first),
		NodePortLast:        uint16(raw.node_port_last),
		MasqueradePortFirst: uint16(raw.masquerade_port_first),
		MasqueradePortLast:  uint16(raw.masquerade_port_last),
		MSS:                 uint16(raw.mss),
		OuterDSCP:           uint8(raw.outer_dscp),
		HalfOpenPerClient:   uint32(raw.half_open_per_client),
		NewFlowsPerSecond:   uint32(raw.new_flows_per_second),
		StatelessPastLimit:  raw.past_limit != C.WEIRGATE_PAST_LIMIT_DROP,
		EchoServices:        raw.echo_services != 0,
		EchoesPerSecond:     uint32(raw.echoes_per_second),
		SelectorSeed:        uint64(raw.selector_seed),
		Timeouts: Timeouts{
			TCPSynSentSeconds:           uint32(raw.timeouts.tcp_syn_sent_seconds),
			TCPSynReceivedSeconds:       uint32(raw.timeouts.tcp_syn_received_seconds),
			TCPEstablishedSeconds:       uint32(raw.timeouts.tcp_established_seconds),
			TCPFinWaitSeconds:           uint32(raw.timeouts.tcp_fin_wait_seconds),
			TCPCloseWaitSeconds:         uint32(raw.timeouts.tcp_close_wait_seconds),
			TCPLastAckSeconds:           uint32(raw.timeouts.tcp_last_ack_seconds),
			TCPTimeWaitSeconds:          uint32(raw.timeouts.tcp_time_wait_seconds),
			TCPResetSeconds:             uint32(raw.timeouts.tcp_reset_seconds),
			TCPSynSent2Seconds:          uint32(raw.timeouts.tcp_syn_sent2_seconds),
			UDPSeconds:                  uint32(raw.timeouts.udp_seconds),
			UDPStreamSeconds:            uint32(raw.timeouts.udp_stream_seconds),
			ICMPSeconds:                 uint32(raw.timeouts.icmp_seconds),
			SCTPCookieWaitSeconds:       uint32(raw.timeouts.sctp_cookie_wait_seconds),
			SCTPCookieEchoedSeconds:     uint32(raw.timeouts.sctp_cookie_echoed_seconds),
			SCTPEstablishedSeconds:      uint32(raw.timeouts.sctp_established_seconds),
			SCTPShutdownSentSeconds:     uint32(raw.timeouts.sctp_shutdown_sent_seconds),
			SCTPShutdownReceivedSeconds: uint32(raw.timeouts.sctp_shutdown_received_seconds),
			SCTPShutdownAckSentSeconds:  uint32(raw.timeouts.sctp_shutdown_ack_sent_seconds),
			SCTPClosedSeconds:           uint32(raw.timeouts.sctp_closed_seconds),
		},
	}
}

// An arena is C memory for the arrays of one description: Go memory must not
// hold them, as they hold pointers to each other.
type arena struct {
	blocks []unsafe.Pointer
}

func (a *arena) free() {
	for _, block := range a.blocks {
		C.free(block)
	}
}

// array converts a slice to C: it returns a zeroed element to be filled in for
// each of the slice's, and the pointer to the first, nil where there is none.
func array[T, R any](a *arena, from []T, fill func(*T, *R)) (*R, C.size_t) {
	if len(from) == 0 {
		return nil, 0
	}
	var element R
	block := C.calloc(C.size_t(len(from)), C.size_t(unsafe.Sizeof(element)))
	if block == nil {
		panic("weirgate: out of memory")
	}
	a.blocks = append(a.blocks, block)
	first := (*R)(block)
	to := unsafe.Slice(first, len(from))
	for i := range from {
		fill(&from[i], &to[i])
	}
	return first, C.size_t(len(from))
}

func setMAC(to *[6]C.uint8_t, from MAC) {
	for i, b := range from {
		to[i] = C.uint8_t(b)
	}
}

// setAddress leaves no address where there is none. An IPv4-mapped IPv6
// address stays one.
func setAddress(to *C.weirgate_address, from netip.Addr) {
	switch {
	case from.Is4():
		to.family = C.WEIRGATE_FAMILY_V4
	case from.Is6():
		to.family = C.WEIRGATE_FAMILY_V6
	default:
		to.family = C.WEIRGATE_FAMILY_NONE
	}
	for i, b := range from.AsSlice() {
		to.bytes[i] = C.uint8_t(b)
	}
}

func setPrefix(to *C.weirgate_prefix, from netip.Prefix) {
	if from.IsValid() {
		setAddress(&to.address, from.Addr())
		to.length = C.uint8_t(from.Bits())
	}
}

func setEndpoint(to *C.weirgate_endpoint, from netip.AddrPort) {
	setAddress(&to.address, from.Addr())
	to.port = C.uint16_t(from.Port())
}

func setVTEP(to *C.weirgate_vtep, from *VTEP) {
	if from != nil {
		setAddress(&to.public_address, from.Public)
		setMAC(&to.mac, from.MAC)
	}
}

func setPeer(from *Peer, to *C.weirgate_peer) {
	setPrefix(&to.subnet, from.Subnet)
	setAddress(&to.public_address, from.Public)
	to.encapsulation = C.WEIRGATE_ENCAPSULATION_DIRECT
	if from.VTEP != nil {
		to.encapsulation = C.WEIRGATE_ENCAPSULATION_VXLAN
		setMAC(&to.vtep_mac, *from.VTEP)
	}
	if from.NextHop != nil {
		to.has_next_hop = 1
		to.next_hop_port = C.uint8_t(from.NextHop.Port)
		setMAC(&to.next_hop_mac, from.NextHop.MAC)
		to.next_hop_mtu = C.uint16_t(from.NextHop.MTU)
	}
}

func setBackend(from *Backend, to *C.weirgate_backend) {
	setEndpoint(&to.endpoint, from.Endpoint)
	to.weight = C.uint32_t(from.Weight)
}

// describe writes the description as C reads it. The arrays live in the arena.
func (d *Description) describe(a *arena) C.weirgate_description {
	raw := C.weirgate_description{
		selector_seed: C.uint64_t(d.SelectorSeed),
		generation:    C.uint32_t(d.Generation),
		vni:           C.uint32_t(d.VNI),
		timeouts: C.weirgate_timeouts{
			tcp_syn_sent_seconds:           C.uint32_t(d.Timeouts.TCPSynSentSeconds),
			tcp_syn_received_seconds:       C.uint32_t(d.Timeouts.TCPSynReceivedSeconds),
			tcp_established_seconds:        C.uint32_t(d.Timeouts.TCPEstablishedSeconds),
			tcp_fin_wait_seconds:           C.uint32_t(d.Timeouts.TCPFinWaitSeconds),
			tcp_close_wait_seconds:         C.uint32_t(d.Timeouts.TCPCloseWaitSeconds),
			tcp_last_ack_seconds:           C.uint32_t(d.Timeouts.TCPLastAckSeconds),
			tcp_time_wait_seconds:          C.uint32_t(d.Timeouts.TCPTimeWaitSeconds),
			tcp_reset_seconds:              C.uint32_t(d.Timeouts.TCPResetSeconds),
			tcp_syn_sent2_seconds:          C.uint32_t(d.Timeouts.TCPSynSent2Seconds),
			udp_seconds:                    C.uint32_t(d.Timeouts.UDPSeconds),
			udp_stream_seconds:             C.uint32_t(d.Timeouts.UDPStreamSeconds),
			icmp_seconds:                   C.uint32_t(d.Timeouts.ICMPSeconds),
			sctp_cookie_wait_seconds:       C.uint32_t(d.Timeouts.SCTPCookieWaitSeconds),
			sctp_cookie_echoed_seconds:     C.uint32_t(d.Timeouts.SCTPCookieEchoedSeconds),
			sctp_established_seconds:       C.uint32_t(d.Timeouts.SCTPEstablishedSeconds),
			sctp_shutdown_sent_seconds:     C.uint32_t(d.Timeouts.SCTPShutdownSentSeconds),
			sctp_shutdown_received_seconds: C.uint32_t(d.Timeouts.SCTPShutdownReceivedSeconds),
			sctp_shutdown_ack_sent_seconds: C.uint32_t(d.Timeouts.SCTPShutdownAckSentSeconds),
			sctp_closed_seconds:            C.uint32_t(d.Timeouts.SCTPClosedSeconds),
		},
		vxlan_port:            C.uint16_t(d.VXLANPort),
		overlay_mtu:           C.uint16_t(d.OverlayMTU),
		pool_port_first:       C.uint16_t(d.PoolPortFirst),
		pool_port_last:        C.uint16_t(d.PoolPortLast),
		masquerade_port_first: C.uint16_t(d.MasqueradePortFirst),
		masquerade_port_last:  C.uint16_t(d.MasqueradePortLast),
		node_port_first:       C.uint16_t(d.NodePortFirst),
		node_port_last:        C.uint16_t(d.NodePortLast),
		half_open_per_client:  C.uint32_t(d.HalfOpenPerClient),
		new_flows_per_second:  C.uint32_t(d.NewFlowsPerSecond),
		echoes_per_second:     C.uint32_t(d.EchoesPerSecond),
		mss:                   C.uint16_t(d.MSS),
		outer_dscp:            C.uint8_t(d.OuterDSCP),
		workers:               C.uint8_t(d.Workers),
	}
	if d.StatelessPastLimit {
		raw.past_limit = C.WEIRGATE_PAST_LIMIT_STATELESS
	}
	if d.EchoServices {
		raw.echo_services = 1
	}
	setVTEP(&raw.vtep_v4, d.VTEPv4)
	setVTEP(&raw.vtep_v6, d.VTEPv6)
	raw.ports, raw.port_count = array(a, d.Ports, func(from *Port, to *C.weirgate_port) {
		setMAC(&to.mac, from.MAC)
		to.mtu = C.uint16_t(from.MTU)
	})
	raw.peers, raw.peer_count = array(a, d.Peers, setPeer)
	raw.services, raw.service_count = array(a, d.Services, func(from *Service, to *C.weirgate_service) {
		to.id = C.uint32_t(from.ID)
		to.protocol = C.uint8_t(from.Protocol)
		to.table_size = C.uint32_t(from.TableSize)
		if from.PreserveClient {
			to.client_address = C.WEIRGATE_CLIENT_PRESERVED
		}
		if from.ResetRemovedBackend {
			to.removed_backend = C.WEIRGATE_REMOVED_BACKEND_RESET
		}
		if from.DSCP != nil {
			to.has_dscp = 1
			to.dscp = C.uint8_t(*from.DSCP)
		}
		to.frontends, to.frontend_count = array(a, from.Frontends, func(from *netip.AddrPort, to *C.weirgate_endpoint) {
			setEndpoint(to, *from)
		})
		to.backends, to.backend_count = array(a, from.Backends, setBackend)
	})
	raw.routes, raw.route_count = array(a, d.Routes, func(from *Route, to *C.weirgate_route) {
		setPrefix(&to.prefix, from.Prefix)
		setAddress(&to.via, from.Via)
		to.port = C.uint8_t(from.Port)
		if from.Nowhere {
			to.target = C.WEIRGATE_ROUTE_NOWHERE
		}
		to.mtu = C.uint16_t(from.MTU)
	})
	raw.neighbours, raw.neighbour_count = array(a, d.Neighbours, func(from *Neighbour, to *C.weirgate_neighbour) {
		setAddress(&to.address, from.Address)
		setMAC(&to.mac, from.MAC)
		to.port = C.uint8_t(from.Port)
	})
	raw.subnets, raw.subnet_count = array(a, d.Subnets, func(from *netip.Prefix, to *C.weirgate_prefix) {
		setPrefix(to, *from)
	})
	addresses := func(from []netip.Addr) (*C.weirgate_address, C.size_t) {
		return array(a, from, func(from *netip.Addr, to *C.weirgate_address) {
			setAddress(to, *from)
		})
	}
	raw.pool, raw.pool_count = addresses(d.Pool)
	raw.masquerade, raw.masquerade_count = addresses(d.Masquerade)
	raw.local, raw.local_count = addresses(d.Local)
	raw.non_masquerade, raw.non_masquerade_count = array(a, d.NonMasquerade, func(from *netip.Prefix, to *C.weirgate_prefix) {
		setPrefix(to, *from)
	})
	return raw
}
