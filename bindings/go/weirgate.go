// Package weirgate is the packet core of weirgate for Go programs, through the
// library libweirgate: the pipeline with its workers, the snapshots compiled
// from what a control plane knows, and components that are useful by themselves.
//
// Building takes cgo and pkg-config, which must find weirgate.pc
// (PKG_CONFIG_PATH); running takes the shared library where the loader finds
// it. No pointer to Go memory is kept by the library.
package weirgate

// #cgo pkg-config: weirgate
// #include <weirgate.h>
import "C"

import "fmt"

// Limits and usual values.
const (
	// BurstFramesMax is the most frames, and the most spares, of a Burst.
	BurstFramesMax = C.WEIRGATE_BURST_FRAMES_MAX
	// Headroom is the room in front of a frame that lets every encapsulation succeed.
	Headroom = C.WEIRGATE_HEADROOM
	// PortsMax is the most ports of a gateway.
	PortsMax = C.WEIRGATE_PORTS_MAX
	// WorkersMax is the most workers of a gateway.
	WorkersMax = C.WEIRGATE_WORKERS_MAX
	// TableSize is the usual number of slots of a selector's table.
	TableSize = C.WEIRGATE_TABLE_SIZE
	// VXLANHeaderBytes is the length of a VXLAN header; the inner Ethernet frame follows.
	VXLANHeaderBytes = C.WEIRGATE_VXLAN_HEADER_BYTES
)

// Protocols of services.
const (
	TCP  = C.WEIRGATE_PROTOCOL_TCP
	UDP  = C.WEIRGATE_PROTOCOL_UDP
	SCTP = C.WEIRGATE_PROTOCOL_SCTP
)

// A Status is the result of a call of the library. As an error it is never StatusOK.
type Status uint32

// Every status. A number keeps its meaning for ever.
const (
	StatusOK                 Status = C.WEIRGATE_STATUS_OK
	StatusNullPointer        Status = C.WEIRGATE_STATUS_NULL_POINTER
	StatusMisaligned         Status = C.WEIRGATE_STATUS_MISALIGNED
	StatusTooShort           Status = C.WEIRGATE_STATUS_TOO_SHORT
	StatusNotAWorker         Status = C.WEIRGATE_STATUS_NOT_A_WORKER
	StatusBusy               Status = C.WEIRGATE_STATUS_BUSY
	StatusBurstTooLong       Status = C.WEIRGATE_STATUS_BURST_TOO_LONG
	StatusFrameOutsideBuffer Status = C.WEIRGATE_STATUS_FRAME_OUTSIDE_BUFFER
	StatusEmpty              Status = C.WEIRGATE_STATUS_EMPTY
	StatusOutOfRange         Status = C.WEIRGATE_STATUS_OUT_OF_RANGE
	StatusNotASnapshot       Status = C.WEIRGATE_STATUS_NOT_A_SNAPSHOT
	StatusSnapshotVersion    Status = C.WEIRGATE_STATUS_SNAPSHOT_VERSION
	StatusSnapshotDamaged    Status = C.WEIRGATE_STATUS_SNAPSHOT_DAMAGED
	StatusFlowCapacity       Status = C.WEIRGATE_STATUS_FLOW_CAPACITY
	StatusWorkers            Status = C.WEIRGATE_STATUS_WORKERS
	StatusAddressFamily      Status = C.WEIRGATE_STATUS_ADDRESS_FAMILY
	StatusPrefixLength       Status = C.WEIRGATE_STATUS_PREFIX_LENGTH
	StatusVNI                Status = C.WEIRGATE_STATUS_VNI
	StatusEncapsulation      Status = C.WEIRGATE_STATUS_ENCAPSULATION
	StatusFlag               Status = C.WEIRGATE_STATUS_FLAG
	StatusTooManyPorts       Status = C.WEIRGATE_STATUS_TOO_MANY_PORTS
	StatusUnknownPort        Status = C.WEIRGATE_STATUS_UNKNOWN_PORT
	StatusPoolPorts          Status = C.WEIRGATE_STATUS_POOL_PORTS
	StatusPoolAddress        Status = C.WEIRGATE_STATUS_POOL_ADDRESS
	StatusNoVTEP             Status = C.WEIRGATE_STATUS_NO_VTEP
	StatusMTUTooSmall        Status = C.WEIRGATE_STATUS_MTU_TOO_SMALL
	StatusDuplicateFrontend  Status = C.WEIRGATE_STATUS_DUPLICATE_FRONTEND
	StatusUnknownProtocol    Status = C.WEIRGATE_STATUS_UNKNOWN_PROTOCOL
	StatusNoWeight           Status = C.WEIRGATE_STATUS_NO_WEIGHT
	StatusNotPrime           Status = C.WEIRGATE_STATUS_NOT_PRIME
	StatusTooManyMembers     Status = C.WEIRGATE_STATUS_TOO_MANY_MEMBERS
	StatusVXLANFlags         Status = C.WEIRGATE_STATUS_VXLAN_FLAGS
	StatusMSSTooSmall        Status = C.WEIRGATE_STATUS_MSS_TOO_SMALL
	StatusDSCP               Status = C.WEIRGATE_STATUS_DSCP
	StatusNotAdopted         Status = C.WEIRGATE_STATUS_NOT_ADOPTED
	StatusFrontendAddress    Status = C.WEIRGATE_STATUS_FRONTEND_ADDRESS
)

// Error describes the status in a few words.
func (s Status) Error() string {
	return "weirgate: " + C.GoString(C.weirgate_status_text(C.uint32_t(s)))
}

func answer(status C.weirgate_status) error {
	if s := Status(status); s != StatusOK {
		return s
	}
	return nil
}

// A Problem describes what is wrong with a description. It wraps its status.
type Problem struct {
	Status Status
	// Text is a sentence with the offending value.
	Text string
}

// Error returns the sentence.
func (p *Problem) Error() string {
	return "weirgate: " + p.Text
}

// Unwrap returns the status.
func (p *Problem) Unwrap() error {
	return p.Status
}

// checkVersion refuses a library other than the one that this package was compiled for.
func checkVersion() error {
	if version := C.weirgate_abi_version(); version != C.WEIRGATE_ABI_VERSION {
		return fmt.Errorf("weirgate: the library has interface %d, and this program was built for %d",
			version, C.WEIRGATE_ABI_VERSION)
	}
	return nil
}

// A DropReason says why a frame was dropped. Its number is valid for one build of
// the library; its name never changes.
type DropReason uint8

// DropReasons returns every reason.
func DropReasons() []DropReason {
	reasons := make([]DropReason, C.weirgate_drop_reason_count())
	for i := range reasons {
		reasons[i] = DropReason(i)
	}
	return reasons
}

// String returns the name by which counters and logs call the reason.
func (r DropReason) String() string {
	if name := C.weirgate_drop_reason_name(C.uint8_t(r)); name != nil {
		return C.GoString(name)
	}
	return fmt.Sprintf("drop-reason-%d", uint8(r))
}

// Text returns one sentence for an operator, or nothing for a number without a reason.
func (r DropReason) Text() string {
	if text := C.weirgate_drop_reason_text(C.uint8_t(r)); text != nil {
		return C.GoString(text)
	}
	return ""
}
