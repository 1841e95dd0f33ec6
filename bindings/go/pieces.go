package weirgate

// #include <weirgate.h>
import "C"

// MaglevFill fills a Maglev lookup table: each slot receives the index of one
// backend, in proportion to the weights. A backend of weight 0 gets no slot.
//
// Gateways with the same seed and the same order of backends get the same
// table; the order decides contested slots. A snapshot sorts them by
// ascending address (IPv4 as mapped IPv6) and port. The number of slots is a
// prime, such as TableSize. The error is a Status.
func MaglevFill(seed uint64, backends []Backend, slots []uint16) error {
	if err := checkVersion(); err != nil {
		return err
	}
	if len(slots) == 0 {
		return StatusNotPrime
	}
	var memory arena
	defer memory.free()
	raw, count := array(&memory, backends, setBackend)
	return answer(C.weirgate_maglev_fill(C.uint64_t(seed), raw, count, (*C.uint16_t)(&slots[0]), C.size_t(len(slots))))
}

// ParseVXLAN reads the VXLAN header at the front of a UDP datagram's data, and
// returns its network and the inner Ethernet frame. Reserved bits are ignored
// (RFC 7348 section 5). The error is a Status.
func ParseVXLAN(data []byte) (vni uint32, inner []byte, err error) {
	if len(data) < VXLANHeaderBytes {
		return 0, nil, StatusTooShort
	}
	var raw C.uint32_t
	if err := answer(C.weirgate_vxlan_parse((*C.uint8_t)(&data[0]), C.size_t(len(data)), &raw)); err != nil {
		return 0, nil, err
	}
	return uint32(raw), data[VXLANHeaderBytes:], nil
}

// AppendVXLAN appends a VXLAN header of this network. The error is a Status.
func AppendVXLAN(to []byte, vni uint32) ([]byte, error) {
	var header [VXLANHeaderBytes]byte
	if err := answer(C.weirgate_vxlan_emit(C.uint32_t(vni), (*C.uint8_t)(&header[0]))); err != nil {
		return to, err
	}
	return append(to, header[:]...), nil
}
