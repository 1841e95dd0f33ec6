package weirgate

// #include <stdlib.h>
// #include <weirgate.h>
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// A Verdict is the pipeline's decision on a frame.
type Verdict uint8

// Every verdict.
const (
	// VerdictNone is that of a frame that has not been processed.
	VerdictNone Verdict = C.WEIRGATE_VERDICT_NONE
	// VerdictTransmit sends the frame on Frame.Port.
	VerdictTransmit Verdict = C.WEIRGATE_VERDICT_TRANSMIT
	// VerdictHost passes it to the kernel. A pod's packet to an address of the
	// gateway's own is still in VXLAN.
	VerdictHost Verdict = C.WEIRGATE_VERDICT_HOST
	// VerdictDrop drops it, for Frame.Reason.
	VerdictDrop Verdict = C.WEIRGATE_VERDICT_DROP
	// VerdictHandover hands it over to Frame.Worker, which owns its flow.
	VerdictHandover Verdict = C.WEIRGATE_VERDICT_HANDOVER
	// VerdictHeld is that of a fragment whose first one has not come: the
	// worker has a copy.
	VerdictHeld Verdict = C.WEIRGATE_VERDICT_HELD
)

// String names the verdict.
func (v Verdict) String() string {
	switch v {
	case VerdictNone:
		return "none"
	case VerdictTransmit:
		return "transmit"
	case VerdictHost:
		return "host"
	case VerdictDrop:
		return "drop"
	case VerdictHandover:
		return "handover"
	case VerdictHeld:
		return "held"
	}
	return fmt.Sprintf("verdict-%d", uint8(v))
}

// A Frame is one of a burst's after it has been processed.
type Frame struct {
	Verdict Verdict
	// Port that it is sent on, with VerdictTransmit.
	Port uint8
	// Reason why it was dropped, with VerdictDrop.
	Reason DropReason
	// Worker that it belongs to, with VerdictHandover.
	Worker uint8
	// Bytes from the Ethernet header on. They lie in the burst, and are valid
	// until it is reset or closed.
	Bytes []byte
}

// A Burst is frames to process together, with their buffers, in C memory. It
// must be closed, and not be used after that.
type Burst struct {
	raw         *C.weirgate_burst
	memory      []unsafe.Pointer
	capacity    int
	bufferBytes int
}

// NewBurst makes room for this many frames and spares, at most BurstFramesMax of
// each. A spare is a buffer for a frame of the gateway's own. A buffer holds
// Headroom and the longest frame, with what encapsulation adds.
func NewBurst(frames, spares, bufferBytes int) (*Burst, error) {
	switch {
	case frames < 1 || frames > BurstFramesMax || spares < 0 || spares > BurstFramesMax:
		return nil, fmt.Errorf("weirgate: %d frames and %d spares; a burst has 1 to %d frames, and no more spares",
			frames, spares, BurstFramesMax)
	case bufferBytes <= Headroom || bufferBytes > 1<<20:
		return nil, fmt.Errorf("weirgate: %d bytes for a buffer; it has more than %d and at most %d",
			bufferBytes, Headroom, 1<<20)
	}
	count := frames + spares
	b := &Burst{capacity: frames, bufferBytes: bufferBytes}
	b.raw = (*C.weirgate_burst)(b.allocate(1, unsafe.Sizeof(C.weirgate_burst{})))
	list := (*C.weirgate_frame)(b.allocate(count, unsafe.Sizeof(C.weirgate_frame{})))
	buffers := b.allocate(count, uintptr(bufferBytes))
	if b.raw == nil || list == nil || buffers == nil {
		b.Close()
		return nil, errors.New("weirgate: no memory for the burst")
	}
	all := unsafe.Slice(list, count)
	for i := range all {
		all[i].buffer = (*C.uint8_t)(unsafe.Add(buffers, i*bufferBytes))
		all[i].capacity = C.uint32_t(bufferBytes)
	}
	b.raw.frames = list
	if spares > 0 {
		b.raw.spares = &all[frames]
		b.raw.spare_count = C.size_t(spares)
	}
	return b, nil
}

func (b *Burst) allocate(count int, size uintptr) unsafe.Pointer {
	block := C.calloc(C.size_t(count), C.size_t(size))
	if block != nil {
		b.memory = append(b.memory, block)
	}
	return block
}

// Close frees the memory.
func (b *Burst) Close() {
	for _, block := range b.memory {
		C.free(block)
	}
	b.raw, b.memory = nil, nil
}

// Reset removes all frames.
func (b *Burst) Reset() {
	b.raw.frame_count = 0
	b.raw.emitted = 0
}

// Add copies a frame received on this port into the burst. It must have
// been reset since it was last processed.
func (b *Burst) Add(port uint8, bytes []byte) error {
	count := int(b.raw.frame_count)
	if count == b.capacity {
		return StatusBurstTooLong
	}
	if len(bytes) > b.bufferBytes-Headroom {
		return StatusFrameOutsideBuffer
	}
	frame := &unsafe.Slice(b.raw.frames, count+1)[count]
	frame.start = Headroom
	frame.length = C.uint32_t(len(bytes))
	frame.port = C.uint8_t(port)
	frame.handovers = 0
	frame.verdict = C.WEIRGATE_VERDICT_NONE
	copy(contents(frame), bytes)
	b.raw.frame_count++
	return nil
}

func contents(frame *C.weirgate_frame) []byte {
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(frame.buffer)), int(frame.capacity))
	return buffer[frame.start:][:frame.length]
}

// Frames returns the frames that were added, and then those of the gateway's own.
func (b *Burst) Frames() []Frame {
	result := make([]Frame, 0, b.raw.frame_count+b.raw.emitted)
	added := unsafe.Slice(b.raw.frames, int(b.raw.frame_count))
	for i := range added {
		result = append(result, frameOf(&added[i]))
	}
	if b.raw.emitted > 0 {
		emitted := unsafe.Slice(b.raw.spares, int(b.raw.emitted))
		for i := range emitted {
			result = append(result, frameOf(&emitted[i]))
		}
	}
	return result
}

func frameOf(raw *C.weirgate_frame) Frame {
	frame := Frame{Verdict: Verdict(raw.verdict), Bytes: contents(raw)}
	switch frame.Verdict {
	case VerdictTransmit:
		frame.Port = uint8(raw.detail)
	case VerdictDrop:
		frame.Reason = DropReason(raw.detail)
	case VerdictHandover:
		frame.Worker = uint8(raw.detail)
	}
	return frame
}
