package weirgate

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const bufferBytes = 2048

// lines reads a file of vectors: the words of each line that is neither empty nor a comment.
func lines(t *testing.T, name string) [][]string {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "tests", "data", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var result [][]string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if line := scanner.Text(); line != "" && !strings.HasPrefix(line, "#") {
			result = append(result, strings.Fields(line))
		}
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return result
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStructuresAreLaidOutAsEveryLanguageExpects(t *testing.T) {
	var expected []layout
	for _, words := range lines(t, "layout.txt") {
		expected = append(expected, layout{words[0], uintptr(number(t, words[1]))})
	}
	seen := layouts()
	if len(seen) != len(expected) {
		t.Fatalf("%d entries, not %d", len(seen), len(expected))
	}
	for i := range seen {
		if seen[i] != expected[i] {
			t.Errorf("%v, not %v", seen[i], expected[i])
		}
	}
}

// describe writes a frame as the vectors do.
func describe(frame Frame) string {
	bytes := hex.EncodeToString(frame.Bytes)
	switch frame.Verdict {
	case VerdictTransmit:
		return fmt.Sprintf("transmit %d %s", frame.Port, bytes)
	case VerdictDrop:
		return fmt.Sprintf("drop %v -", frame.Reason)
	case VerdictHandover:
		return fmt.Sprintf("handover %d %s", frame.Worker, bytes)
	case VerdictHeld:
		return "held - -"
	}
	return fmt.Sprintf("%v - %s", frame.Verdict, bytes)
}

// total returns the counter that a line of the vectors names, as the line's last words.
func total(t *testing.T, w *Worker, words []string) string {
	t.Helper()
	pair := func(traffic Traffic) string { return fmt.Sprintf("%d %d", traffic.Packets, traffic.Bytes) }
	switch words[0] {
	case "flows":
		v4, v6, err := w.Flows()
		check(t, err)
		return fmt.Sprintf("%d %d", v4, v6)
	case "unresolved":
		port, address, err := w.NextUnresolved()
		check(t, err)
		return fmt.Sprintf("%d %v", port, address)
	case "port":
		counters, err := w.PortCounters(uint8(number(t, words[1])))
		check(t, err)
		if words[2] == "received" {
			return pair(counters.Received)
		}
		return pair(counters.Transmitted)
	case "service":
		counters, err := w.ServiceCounters(uint32(number(t, words[1])))
		check(t, err)
		switch words[2] {
		case "original":
			return pair(counters.Original)
		case "reply":
			return pair(counters.Reply)
		}
		return fmt.Sprint(counters.Flows)
	case "counter":
		c, err := w.Counters()
		check(t, err)
		field := reflect.ValueOf(c).FieldByNameFunc(func(name string) bool {
			return strings.EqualFold(name, strings.ReplaceAll(words[1], "-", ""))
		})
		if field.IsValid() {
			return fmt.Sprint(field.Uint())
		}
	}
	t.Fatalf("a line of no kind: %v", words)
	return ""
}

func TestEveryCounterOfTheStructureHasItsPlace(t *testing.T) {
	seen := reflect.ValueOf(numberedCounters())
	for i := 0; i < seen.NumField(); i++ {
		if seen.Field(i).Uint() != uint64(i)+1 {
			t.Errorf("%s is the counter in place %d", seen.Type().Field(i).Name, seen.Field(i).Uint())
		}
	}
	named := 0
	for _, words := range lines(t, "layout.txt") {
		if name := strings.TrimPrefix(words[0], "weirgate_counters."); name != words[0] {
			if of := seen.Type().Field(named).Name; !strings.EqualFold(of, strings.ReplaceAll(name, "_", "")) {
				t.Errorf("%s is %s", name, of)
			}
			named++
		}
	}
	if named != seen.NumField() {
		t.Errorf("%d counters of %d", seen.NumField(), named)
	}
}

func TestAGatewayAnswersEveryCallAsTheVectorsSay(t *testing.T) {
	d := world()
	snapshot, err := Compile(&d)
	check(t, err)
	w, err := NewWorker(workerOfTheVectors(t, setter{}))
	check(t, err)
	defer w.Close()
	b, err := NewBurst(16, 16, bufferBytes)
	check(t, err)
	defer b.Close()

	var nowNS uint64
	var expected []string
	calls, ages, drops := 0, 0, map[string]uint64{}
	process := func() {
		t.Helper()
		check(t, w.Process(snapshot, nowNS, b))
		var seen []string
		for _, frame := range b.Frames() {
			seen = append(seen, describe(frame))
		}
		if strings.Join(seen, "\n") != strings.Join(expected, "\n") {
			t.Fatalf("at %d:\n%s\nnot:\n%s", nowNS, strings.Join(seen, "\n"), strings.Join(expected, "\n"))
		}
		b.Reset()
		expected = nil
	}
	for _, words := range lines(t, "gateway.txt") {
		switch words[0] {
		case "worker":
		case "snapshot":
			hash := fnv.New64a()
			hash.Write(snapshot.Bytes())
			if seen := fmt.Sprintf("%d %016x", len(snapshot.Bytes()), hash.Sum64()); seen != words[1]+" "+words[2] {
				t.Fatalf("snapshot %s, not %v", seen, words[1:])
			}
		case "call":
			process()
			nowNS = number(t, words[1])
			calls++
		case "in":
			bytes, err := hex.DecodeString(words[2])
			check(t, err)
			check(t, b.Add(uint8(number(t, words[1])), bytes))
		case "out":
			expected = append(expected, strings.Join(words[1:], " "))
		case "age":
			process()
			check(t, w.Age(snapshot, number(t, words[1]), uint32(number(t, words[2]))))
			ages++
		case "drops":
			drops[words[1]] = number(t, words[2])
		default:
			process()
			line := strings.Join(words, " ")
			if seen := total(t, w, words); !strings.HasSuffix(line, " "+seen) {
				t.Errorf("%s is %s", line, seen)
			}
		}
	}
	if calls == 0 || ages == 0 {
		t.Fatal("no call in the vectors, or nothing that ages")
	}
	seen, err := w.Drops()
	check(t, err)
	for reason, count := range seen {
		if count != drops[reason.String()] {
			t.Errorf("%d drops for %v, not %d: %s", count, reason, drops[reason.String()], reason.Text())
		}
	}
}

func TestAWorkerGoesOnWithTheFlowsThatAnotherLeftInTheCallersMemory(t *testing.T) {
	d := world()
	snapshot, err := Compile(&d)
	check(t, err)
	config := workerOfTheVectors(t, setter{})
	bytes, err := WorkerBytes(config)
	check(t, err)
	memory, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_SHARED)
	check(t, err)
	defer syscall.Munmap(memory)
	if _, _, err := AttachWorker(config, snapshot, memory); err != StatusNotAdopted {
		t.Fatalf("%v, though nobody has been there", err)
	}
	first, err := NewWorkerIn(config, memory)
	check(t, err)
	b, err := NewBurst(16, 16, bufferBytes)
	check(t, err)
	defer b.Close()
	// The first call of the vectors begins flows.
	for calls, all := 0, lines(t, "gateway.txt"); calls < 2; all = all[1:] {
		if all[0][0] == "call" {
			calls++
		} else if all[0][0] == "in" {
			frame, err := hex.DecodeString(all[0][2])
			check(t, err)
			check(t, b.Add(uint8(number(t, all[0][1])), frame))
		}
	}
	check(t, first.Process(snapshot, 1, b))
	v4, v6, err := first.Flows()
	check(t, err)
	first.Close()

	second, adopted, err := AttachWorker(config, snapshot, memory)
	check(t, err)
	defer second.Close()
	if v4 == 0 || v6 == 0 || adopted.Flows != v4+v6 || adopted.Damaged != 0 || adopted.Strayed != 0 {
		t.Errorf("%d and %d flows, %v adopted", v4, v6, adopted)
	}
	// Where the ports begin one higher, all of them are other workers'.
	d.PoolPortFirst++
	d.MasqueradePortFirst++
	other, err := Compile(&d)
	check(t, err)
	copied, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_SHARED)
	check(t, err)
	defer syscall.Munmap(copied)
	copy(copied, memory)
	third, strayed, err := AttachWorker(config, other, copied)
	check(t, err)
	defer third.Close()
	if strayed.Flows != 0 || strayed.Damaged != 0 || strayed.Strayed != v4+v6 {
		t.Errorf("%v under other ports", strayed)
	}
	if v4Now, v6Now, err := second.Flows(); v4Now != v4 || v6Now != v6 || err != nil {
		t.Errorf("%d and %d flows continue of %d and %d, %v", v4Now, v6Now, v4, v6, err)
	}
	for _, change := range []func(*WorkerConfig){
		func(config *WorkerConfig) { config.Workers++ },
		func(config *WorkerConfig) { config.ID++ },
	} {
		changed := config
		change(&changed)
		if _, _, err := AttachWorker(changed, snapshot, memory); err != StatusNotAdopted {
			t.Errorf("%v for %v", err, changed)
		}
	}
}

func TestASelectorIsFilledAsTheVectorsSay(t *testing.T) {
	vectors := lines(t, "maglev.txt")
	d := world()
	backend := func(last string, weight uint32) Backend {
		b := d.Services[0].Backends[0]
		b.Endpoint = mustEndpoint("10.77.74." + last + ":80")
		b.Weight = weight
		return b
	}
	backends := []Backend{backend("10", 1), backend("11", 2), backend("12", 0)}
	slots := make([]uint16, number(t, vectors[0][2]))
	check(t, MaglevFill(number(t, vectors[0][1]), backends, slots))
	if seen := strings.Trim(fmt.Sprint(slots), "[]"); seen != strings.Join(vectors[1][1:], " ") {
		t.Errorf("%s, not %v", seen, vectors[1][1:])
	}
}
