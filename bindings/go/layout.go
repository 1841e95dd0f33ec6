package weirgate

// #include <weirgate.h>
import "C"

import "unsafe"

// layout is a structure's size, or where one of its fields begins.
type layout struct {
	name  string
	bytes uintptr
}

// layouts returns what cgo makes of the header, for the test that compares it:
// a test file cannot use cgo itself.
func layouts() []layout {
	var (
		address         C.weirgate_address
		prefix          C.weirgate_prefix
		endpoint        C.weirgate_endpoint
		vtep            C.weirgate_vtep
		timeouts        C.weirgate_timeouts
		port            C.weirgate_port
		peer            C.weirgate_peer
		backend         C.weirgate_backend
		service         C.weirgate_service
		route           C.weirgate_route
		neighbour       C.weirgate_neighbour
		description     C.weirgate_description
		workerConfig    C.weirgate_worker_config
		adopted         C.weirgate_adopted
		frame           C.weirgate_frame
		burst           C.weirgate_burst
		unresolved      C.weirgate_unresolved
		traffic         C.weirgate_traffic
		portCounters    C.weirgate_port_counters
		serviceCounters C.weirgate_service_counters
		counters        C.weirgate_counters
	)
	return []layout{
		{"weirgate_address", unsafe.Sizeof(address)},
		{"weirgate_address.bytes", unsafe.Offsetof(address.bytes)},
		{"weirgate_address.family", unsafe.Offsetof(address.family)},
		{"weirgate_prefix", unsafe.Sizeof(prefix)},
		{"weirgate_prefix.address", unsafe.Offsetof(prefix.address)},
		{"weirgate_prefix.length", unsafe.Offsetof(prefix.length)},
		{"weirgate_endpoint", unsafe.Sizeof(endpoint)},
		{"weirgate_endpoint.address", unsafe.Offsetof(endpoint.address)},
		{"weirgate_endpoint.reserved", unsafe.Offsetof(endpoint.reserved)},
		{"weirgate_endpoint.port", unsafe.Offsetof(endpoint.port)},
		{"weirgate_vtep", unsafe.Sizeof(vtep)},
		{"weirgate_vtep.public_address", unsafe.Offsetof(vtep.public_address)},
		{"weirgate_vtep.mac", unsafe.Offsetof(vtep.mac)},
		{"weirgate_timeouts", unsafe.Sizeof(timeouts)},
		{"weirgate_timeouts.tcp_syn_sent_seconds", unsafe.Offsetof(timeouts.tcp_syn_sent_seconds)},
		{"weirgate_timeouts.tcp_syn_received_seconds", unsafe.Offsetof(timeouts.tcp_syn_received_seconds)},
		{"weirgate_timeouts.tcp_established_seconds", unsafe.Offsetof(timeouts.tcp_established_seconds)},
		{"weirgate_timeouts.tcp_fin_wait_seconds", unsafe.Offsetof(timeouts.tcp_fin_wait_seconds)},
		{"weirgate_timeouts.tcp_close_wait_seconds", unsafe.Offsetof(timeouts.tcp_close_wait_seconds)},
		{"weirgate_timeouts.tcp_last_ack_seconds", unsafe.Offsetof(timeouts.tcp_last_ack_seconds)},
		{"weirgate_timeouts.tcp_time_wait_seconds", unsafe.Offsetof(timeouts.tcp_time_wait_seconds)},
		{"weirgate_timeouts.tcp_reset_seconds", unsafe.Offsetof(timeouts.tcp_reset_seconds)},
		{"weirgate_timeouts.tcp_syn_sent2_seconds", unsafe.Offsetof(timeouts.tcp_syn_sent2_seconds)},
		{"weirgate_timeouts.udp_seconds", unsafe.Offsetof(timeouts.udp_seconds)},
		{"weirgate_timeouts.udp_stream_seconds", unsafe.Offsetof(timeouts.udp_stream_seconds)},
		{"weirgate_timeouts.icmp_seconds", unsafe.Offsetof(timeouts.icmp_seconds)},
		{"weirgate_timeouts.sctp_cookie_wait_seconds", unsafe.Offsetof(timeouts.sctp_cookie_wait_seconds)},
		{"weirgate_timeouts.sctp_cookie_echoed_seconds", unsafe.Offsetof(timeouts.sctp_cookie_echoed_seconds)},
		{"weirgate_timeouts.sctp_established_seconds", unsafe.Offsetof(timeouts.sctp_established_seconds)},
		{"weirgate_timeouts.sctp_shutdown_sent_seconds", unsafe.Offsetof(timeouts.sctp_shutdown_sent_seconds)},
		{"weirgate_timeouts.sctp_shutdown_received_seconds", unsafe.Offsetof(timeouts.sctp_shutdown_received_seconds)},
		{"weirgate_timeouts.sctp_shutdown_ack_sent_seconds", unsafe.Offsetof(timeouts.sctp_shutdown_ack_sent_seconds)},
		{"weirgate_timeouts.sctp_closed_seconds", unsafe.Offsetof(timeouts.sctp_closed_seconds)},
		{"weirgate_port", unsafe.Sizeof(port)},
		{"weirgate_port.mac", unsafe.Offsetof(port.mac)},
		{"weirgate_port.mtu", unsafe.Offsetof(port.mtu)},
		{"weirgate_peer", unsafe.Sizeof(peer)},
		{"weirgate_peer.subnet", unsafe.Offsetof(peer.subnet)},
		{"weirgate_peer.public_address", unsafe.Offsetof(peer.public_address)},
		{"weirgate_peer.encapsulation", unsafe.Offsetof(peer.encapsulation)},
		{"weirgate_peer.vtep_mac", unsafe.Offsetof(peer.vtep_mac)},
		{"weirgate_peer.has_next_hop", unsafe.Offsetof(peer.has_next_hop)},
		{"weirgate_peer.next_hop_port", unsafe.Offsetof(peer.next_hop_port)},
		{"weirgate_peer.next_hop_mac", unsafe.Offsetof(peer.next_hop_mac)},
		{"weirgate_peer.next_hop_mtu", unsafe.Offsetof(peer.next_hop_mtu)},
		{"weirgate_backend", unsafe.Sizeof(backend)},
		{"weirgate_backend.endpoint", unsafe.Offsetof(backend.endpoint)},
		{"weirgate_backend.weight", unsafe.Offsetof(backend.weight)},
		{"weirgate_service", unsafe.Sizeof(service)},
		{"weirgate_service.frontends", unsafe.Offsetof(service.frontends)},
		{"weirgate_service.frontend_count", unsafe.Offsetof(service.frontend_count)},
		{"weirgate_service.backends", unsafe.Offsetof(service.backends)},
		{"weirgate_service.backend_count", unsafe.Offsetof(service.backend_count)},
		{"weirgate_service.id", unsafe.Offsetof(service.id)},
		{"weirgate_service.table_size", unsafe.Offsetof(service.table_size)},
		{"weirgate_service.protocol", unsafe.Offsetof(service.protocol)},
		{"weirgate_service.client_address", unsafe.Offsetof(service.client_address)},
		{"weirgate_service.has_dscp", unsafe.Offsetof(service.has_dscp)},
		{"weirgate_service.dscp", unsafe.Offsetof(service.dscp)},
		{"weirgate_service.removed_backend", unsafe.Offsetof(service.removed_backend)},
		{"weirgate_service.reserved", unsafe.Offsetof(service.reserved)},
		{"weirgate_route", unsafe.Sizeof(route)},
		{"weirgate_route.prefix", unsafe.Offsetof(route.prefix)},
		{"weirgate_route.via", unsafe.Offsetof(route.via)},
		{"weirgate_route.port", unsafe.Offsetof(route.port)},
		{"weirgate_route.target", unsafe.Offsetof(route.target)},
		{"weirgate_route.mtu", unsafe.Offsetof(route.mtu)},
		{"weirgate_neighbour", unsafe.Sizeof(neighbour)},
		{"weirgate_neighbour.address", unsafe.Offsetof(neighbour.address)},
		{"weirgate_neighbour.mac", unsafe.Offsetof(neighbour.mac)},
		{"weirgate_neighbour.port", unsafe.Offsetof(neighbour.port)},
		{"weirgate_description", unsafe.Sizeof(description)},
		{"weirgate_description.ports", unsafe.Offsetof(description.ports)},
		{"weirgate_description.port_count", unsafe.Offsetof(description.port_count)},
		{"weirgate_description.peers", unsafe.Offsetof(description.peers)},
		{"weirgate_description.peer_count", unsafe.Offsetof(description.peer_count)},
		{"weirgate_description.services", unsafe.Offsetof(description.services)},
		{"weirgate_description.service_count", unsafe.Offsetof(description.service_count)},
		{"weirgate_description.routes", unsafe.Offsetof(description.routes)},
		{"weirgate_description.route_count", unsafe.Offsetof(description.route_count)},
		{"weirgate_description.neighbours", unsafe.Offsetof(description.neighbours)},
		{"weirgate_description.neighbour_count", unsafe.Offsetof(description.neighbour_count)},
		{"weirgate_description.subnets", unsafe.Offsetof(description.subnets)},
		{"weirgate_description.subnet_count", unsafe.Offsetof(description.subnet_count)},
		{"weirgate_description.pool", unsafe.Offsetof(description.pool)},
		{"weirgate_description.pool_count", unsafe.Offsetof(description.pool_count)},
		{"weirgate_description.masquerade", unsafe.Offsetof(description.masquerade)},
		{"weirgate_description.masquerade_count", unsafe.Offsetof(description.masquerade_count)},
		{"weirgate_description.non_masquerade", unsafe.Offsetof(description.non_masquerade)},
		{"weirgate_description.non_masquerade_count", unsafe.Offsetof(description.non_masquerade_count)},
		{"weirgate_description.local", unsafe.Offsetof(description.local)},
		{"weirgate_description.local_count", unsafe.Offsetof(description.local_count)},
		{"weirgate_description.selector_seed", unsafe.Offsetof(description.selector_seed)},
		{"weirgate_description.generation", unsafe.Offsetof(description.generation)},
		{"weirgate_description.vni", unsafe.Offsetof(description.vni)},
		{"weirgate_description.timeouts", unsafe.Offsetof(description.timeouts)},
		{"weirgate_description.vxlan_port", unsafe.Offsetof(description.vxlan_port)},
		{"weirgate_description.overlay_mtu", unsafe.Offsetof(description.overlay_mtu)},
		{"weirgate_description.pool_port_first", unsafe.Offsetof(description.pool_port_first)},
		{"weirgate_description.pool_port_last", unsafe.Offsetof(description.pool_port_last)},
		{"weirgate_description.masquerade_port_first", unsafe.Offsetof(description.masquerade_port_first)},
		{"weirgate_description.masquerade_port_last", unsafe.Offsetof(description.masquerade_port_last)},
		{"weirgate_description.node_port_first", unsafe.Offsetof(description.node_port_first)},
		{"weirgate_description.node_port_last", unsafe.Offsetof(description.node_port_last)},
		{"weirgate_description.half_open_per_client", unsafe.Offsetof(description.half_open_per_client)},
		{"weirgate_description.new_flows_per_second", unsafe.Offsetof(description.new_flows_per_second)},
		{"weirgate_description.echoes_per_second", unsafe.Offsetof(description.echoes_per_second)},
		{"weirgate_description.mss", unsafe.Offsetof(description.mss)},
		{"weirgate_description.outer_dscp", unsafe.Offsetof(description.outer_dscp)},
		{"weirgate_description.past_limit", unsafe.Offsetof(description.past_limit)},
		{"weirgate_description.vtep_v4", unsafe.Offsetof(description.vtep_v4)},
		{"weirgate_description.vtep_v6", unsafe.Offsetof(description.vtep_v6)},
		{"weirgate_description.workers", unsafe.Offsetof(description.workers)},
		{"weirgate_description.echo_services", unsafe.Offsetof(description.echo_services)},
		{"weirgate_description.reserved", unsafe.Offsetof(description.reserved)},
		{"weirgate_worker_config", unsafe.Sizeof(workerConfig)},
		{"weirgate_worker_config.secret", unsafe.Offsetof(workerConfig.secret)},
		{"weirgate_worker_config.flows_v4", unsafe.Offsetof(workerConfig.flows_v4)},
		{"weirgate_worker_config.flows_v6", unsafe.Offsetof(workerConfig.flows_v6)},
		{"weirgate_worker_config.services", unsafe.Offsetof(workerConfig.services)},
		{"weirgate_worker_config.fragment_datagrams", unsafe.Offsetof(workerConfig.fragment_datagrams)},
		{"weirgate_worker_config.fragment_held_bytes", unsafe.Offsetof(workerConfig.fragment_held_bytes)},
		{"weirgate_worker_config.fragment_wait_ms", unsafe.Offsetof(workerConfig.fragment_wait_ms)},
		{"weirgate_worker_config.id", unsafe.Offsetof(workerConfig.id)},
		{"weirgate_worker_config.workers", unsafe.Offsetof(workerConfig.workers)},
		{"weirgate_worker_config.reserved", unsafe.Offsetof(workerConfig.reserved)},
		{"weirgate_adopted", unsafe.Sizeof(adopted)},
		{"weirgate_adopted.flows", unsafe.Offsetof(adopted.flows)},
		{"weirgate_adopted.damaged", unsafe.Offsetof(adopted.damaged)},
		{"weirgate_adopted.strayed", unsafe.Offsetof(adopted.strayed)},
		{"weirgate_frame", unsafe.Sizeof(frame)},
		{"weirgate_frame.buffer", unsafe.Offsetof(frame.buffer)},
		{"weirgate_frame.capacity", unsafe.Offsetof(frame.capacity)},
		{"weirgate_frame.start", unsafe.Offsetof(frame.start)},
		{"weirgate_frame.length", unsafe.Offsetof(frame.length)},
		{"weirgate_frame.port", unsafe.Offsetof(frame.port)},
		{"weirgate_frame.verdict", unsafe.Offsetof(frame.verdict)},
		{"weirgate_frame.detail", unsafe.Offsetof(frame.detail)},
		{"weirgate_frame.handovers", unsafe.Offsetof(frame.handovers)},
		{"weirgate_burst", unsafe.Sizeof(burst)},
		{"weirgate_burst.frames", unsafe.Offsetof(burst.frames)},
		{"weirgate_burst.frame_count", unsafe.Offsetof(burst.frame_count)},
		{"weirgate_burst.spares", unsafe.Offsetof(burst.spares)},
		{"weirgate_burst.spare_count", unsafe.Offsetof(burst.spare_count)},
		{"weirgate_burst.emitted", unsafe.Offsetof(burst.emitted)},
		{"weirgate_unresolved", unsafe.Sizeof(unresolved)},
		{"weirgate_unresolved.address", unsafe.Offsetof(unresolved.address)},
		{"weirgate_unresolved.port", unsafe.Offsetof(unresolved.port)},
		{"weirgate_traffic", unsafe.Sizeof(traffic)},
		{"weirgate_traffic.packets", unsafe.Offsetof(traffic.packets)},
		{"weirgate_traffic.bytes", unsafe.Offsetof(traffic.bytes)},
		{"weirgate_port_counters", unsafe.Sizeof(portCounters)},
		{"weirgate_port_counters.received", unsafe.Offsetof(portCounters.received)},
		{"weirgate_port_counters.transmitted", unsafe.Offsetof(portCounters.transmitted)},
		{"weirgate_service_counters", unsafe.Sizeof(serviceCounters)},
		{"weirgate_service_counters.original", unsafe.Offsetof(serviceCounters.original)},
		{"weirgate_service_counters.reply", unsafe.Offsetof(serviceCounters.reply)},
		{"weirgate_service_counters.flows", unsafe.Offsetof(serviceCounters.flows)},
		{"weirgate_counters", unsafe.Sizeof(counters)},
		{"weirgate_counters.host", unsafe.Offsetof(counters.host)},
		{"weirgate_counters.handovers", unsafe.Offsetof(counters.handovers)},
		{"weirgate_counters.fragments_held", unsafe.Offsetof(counters.fragments_held)},
		{"weirgate_counters.fragments_created", unsafe.Offsetof(counters.fragments_created)},
		{"weirgate_counters.flows_created", unsafe.Offsetof(counters.flows_created)},
		{"weirgate_counters.flows_expired", unsafe.Offsetof(counters.flows_expired)},
		{"weirgate_counters.flows_reopened", unsafe.Offsetof(counters.flows_reopened)},
		{"weirgate_counters.flows_reset", unsafe.Offsetof(counters.flows_reset)},
		{"weirgate_counters.evicted_half_open", unsafe.Offsetof(counters.evicted_half_open)},
		{"weirgate_counters.evicted_one_way", unsafe.Offsetof(counters.evicted_one_way)},
		{"weirgate_counters.evicted_closing", unsafe.Offsetof(counters.evicted_closing)},
		{"weirgate_counters.evicted_unassured", unsafe.Offsetof(counters.evicted_unassured)},
		{"weirgate_counters.evicted_stream", unsafe.Offsetof(counters.evicted_stream)},
		{"weirgate_counters.forwarded_stateless", unsafe.Offsetof(counters.forwarded_stateless)},
		{"weirgate_counters.echoes_answered", unsafe.Offsetof(counters.echoes_answered)},
		{"weirgate_counters.errors_translated", unsafe.Offsetof(counters.errors_translated)},
		{"weirgate_counters.errors_sent", unsafe.Offsetof(counters.errors_sent)},
		{"weirgate_counters.resets_sent", unsafe.Offsetof(counters.resets_sent)},
	}
}

// numberedCounters are the counters of a worker in which each counter's value is
// its position in the structure, from 1 on.
func numberedCounters() Counters {
	var raw C.weirgate_counters
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)/8)
	for i := range words {
		words[i] = uint64(i) + 1
	}
	return counters(raw)
}

// numbersIn returns the numbers of a description whose bytes in C are these.
func numbersIn(bytes []byte) Description {
	var raw C.weirgate_description
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), bytes)
	return numbersOf(&raw)
}
