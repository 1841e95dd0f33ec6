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
	// VTEPv4 and VTEPv6 are the own ends of the overlay, nil where there is none.
	VTEPv4, VTEPv6 *VTEP
	// OverlayMTU is the largest packet inside VXLAN; 0 for what the links leave.
	OverlayMTU uint16
	// Subnets are the gateway's own overlay subnets, whose addresses nobody else uses.
	Subnets []netip.Prefix
	// Pool holds the addresses that stand for clients towards backends: inside
	// the subnets, never their first.
	Pool []netip.Addr
	// PoolPortFirst and PoolPortLast bound the ports of translations on pool addresses.
	PoolPortFirst, PoolPortLast uint16
	// SelectorSeed is equal on all gateways that shall pick the same backends.
	SelectorSeed uint64
	// Timeouts after which a flow is forgotten.
	Timeouts Timeouts
	// Ports are the gateway's links; a port's number is its place here.
	Ports []Port
	// Peers are the other members of the overlay.
	Peers []Peer
	// Services in any order.
	Services []Service
	// Routes are the way back to clients, in any order.
	Routes []Route
	// Neighbours are stations on the gateway's own links.
	Neighbours []Neighbour
}

// A VTEP is one end of a VXLAN overlay.
type VTEP struct {
	// Public is the underlay address that peers send to.
	Public netip.Addr
	// MAC is the inner link address that peers send to.
	MAC MAC
}

// Timeouts are idle times in seconds.
type Timeouts struct {
	// TCPOpeningSeconds before both sides have spoken.
	TCPOpeningSeconds uint32
	// TCPEstablishedSeconds while open.
	TCPEstablishedSeconds uint32
	// TCPClosingSeconds after a FIN or RST.
	TCPClosingSeconds uint32
	// UDPSeconds before a reply.
	UDPSeconds uint32
	// UDPStreamSeconds after a reply.
	UDPStreamSeconds uint32
}

// A Port is one of the gateway's links.
type Port struct {
	// MAC is the port's own link address.
	MAC MAC
	// MTU is the largest IP packet that leaves here.
	MTU uint16
}

// A Peer is another member of the overlay, and how to reach it.
type Peer struct {
	// Subnet holds the pods behind it.
	Subnet netip.Prefix
	// Public is the underlay address that packets for it go to.
	Public netip.Addr
	// VTEP is the inner link address that VXLAN goes to; nil where packets go
	// to the next hop as they are.
	VTEP *MAC
	// NextHop leads to the public address; nil while it is not known.
	NextHop *NextHop
}

// A NextHop is a station on one of the gateway's links.
type NextHop struct {
	// Port of the link.
	Port uint8
	// MAC of the station.
	MAC MAC
}

// A Service is where clients reach it and who answers.
type Service struct {
	// ID stays the same while the service exists; its counters are found by it.
	ID uint32
	// Protocol is TCP, UDP or SCTP.
	Protocol uint8
	// TableSize is the number of slots of its selector's table: a prime,
	// TableSize unless there is a reason.
	TableSize uint32
	// Frontends are where clients reach it.
	Frontends []netip.AddrPort
	// Backends are who answers, in any order.
	Backends []Backend
}

// A Backend is one who answers for a service.
type Backend struct {
	// Endpoint is where it listens.
	Endpoint netip.AddrPort
	// Weight is its share against the others; 0 gives it no new flow.
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
}

// A Neighbour is a station whose link address is known.
type Neighbour struct {
	// Address of the station.
	Address netip.Addr
	// MAC of the station.
	MAC MAC
	// Port of the link.
	Port uint8
}

// Defaults gives a description with nothing but defaults: one worker, VXLAN
// network 1 at UDP port 8472, pool ports 1024 to 65535, and the usual timeouts.
func Defaults() Description {
	var raw C.weirgate_description
	if err := answer(C.weirgate_description_defaults(&raw)); err != nil {
		panic(err) // The one argument is there.
	}
	return Description{
		Workers:       uint8(raw.workers),
		VNI:           uint32(raw.vni),
		VXLANPort:     uint16(raw.vxlan_port),
		PoolPortFirst: uint16(raw.pool_port_first),
		PoolPortLast:  uint16(raw.pool_port_last),
		Timeouts: Timeouts{
			TCPOpeningSeconds:     uint32(raw.timeouts.tcp_opening_seconds),
			TCPEstablishedSeconds: uint32(raw.timeouts.tcp_established_seconds),
			TCPClosingSeconds:     uint32(raw.timeouts.tcp_closing_seconds),
			UDPSeconds:            uint32(raw.timeouts.udp_seconds),
			UDPStreamSeconds:      uint32(raw.timeouts.udp_stream_seconds),
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

// array converts a slice to C: it gives a zeroed element to be filled in for
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
			tcp_opening_seconds:     C.uint32_t(d.Timeouts.TCPOpeningSeconds),
			tcp_established_seconds: C.uint32_t(d.Timeouts.TCPEstablishedSeconds),
			tcp_closing_seconds:     C.uint32_t(d.Timeouts.TCPClosingSeconds),
			udp_seconds:             C.uint32_t(d.Timeouts.UDPSeconds),
			udp_stream_seconds:      C.uint32_t(d.Timeouts.UDPStreamSeconds),
		},
		vxlan_port:      C.uint16_t(d.VXLANPort),
		overlay_mtu:     C.uint16_t(d.OverlayMTU),
		pool_port_first: C.uint16_t(d.PoolPortFirst),
		pool_port_last:  C.uint16_t(d.PoolPortLast),
		workers:         C.uint8_t(d.Workers),
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
		to.frontends, to.frontend_count = array(a, from.Frontends, func(from *netip.AddrPort, to *C.weirgate_endpoint) {
			setEndpoint(to, *from)
		})
		to.backends, to.backend_count = array(a, from.Backends, setBackend)
	})
	raw.routes, raw.route_count = array(a, d.Routes, func(from *Route, to *C.weirgate_route) {
		setPrefix(&to.prefix, from.Prefix)
		setAddress(&to.via, from.Via)
		to.port = C.uint8_t(from.Port)
	})
	raw.neighbours, raw.neighbour_count = array(a, d.Neighbours, func(from *Neighbour, to *C.weirgate_neighbour) {
		setAddress(&to.address, from.Address)
		setMAC(&to.mac, from.MAC)
		to.port = C.uint8_t(from.Port)
	})
	raw.subnets, raw.subnet_count = array(a, d.Subnets, func(from *netip.Prefix, to *C.weirgate_prefix) {
		setPrefix(to, *from)
	})
	raw.pool, raw.pool_count = array(a, d.Pool, func(from *netip.Addr, to *C.weirgate_address) {
		setAddress(to, *from)
	})
	return raw
}
