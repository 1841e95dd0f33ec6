package weirgate

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// inGo has Go's names for fields that C calls otherwise, by Go's structure and
// C's field. A nil pointer stands for an absent field.
var inGo = map[string]string{
	"Description.past_limit":           "StatelessPastLimit",
	"VTEP.public_address":              "Public",
	"Peer.public_address":              "Public",
	"Peer.encapsulation":               "VTEP",
	"Peer.vtep_mac":                    "VTEP",
	"Peer.has_next_hop":                "NextHop",
	"Peer.next_hop_port":               "NextHop.Port",
	"Peer.next_hop_mac":                "NextHop.MAC",
	"Peer.next_hop_mtu":                "NextHop.MTU",
	"Service.client_address":           "PreserveClient",
	"Service.removed_backend":          "ResetRemovedBackend",
	"Service.has_dscp":                 "DSCP",
	"Route.target":                     "Nowhere",
	"WorkerConfig.fragment_datagrams":  "Fragments.Datagrams",
	"WorkerConfig.fragment_held_bytes": "Fragments.HeldBytes",
	"WorkerConfig.fragment_wait_ms":    "Fragments.WaitMS",
}

// nameInGo finds the field of a structure that has this name in C.
func nameInGo(structure reflect.Type, name string) (string, bool) {
	if known, ok := inGo[structure.Name()+"."+name]; ok {
		return known, true
	}
	field, ok := structure.FieldByNameFunc(func(field string) bool {
		return strings.EqualFold(field, strings.ReplaceAll(name, "_", ""))
	})
	return field.Name, ok
}

// A setter sets fields by their names in C, and knows those that it has set, as
// Structure.Field.
type setter map[string]bool

// step goes from a structure to one of its fields, through a pointer if need be.
func (s setter) step(of reflect.Value, field string) reflect.Value {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	s[of.Type().Name()+"."+field] = true
	return of.FieldByName(field)
}

// set sets what path names in C, as in peers[0].next_hop_mac; a list's count cuts it.
func (s setter) set(t *testing.T, root reflect.Value, path, value string) {
	t.Helper()
	at := root
	for _, name := range strings.Split(path, ".") {
		if at.Kind() == reflect.Pointer {
			at = at.Elem()
		}
		name, index, isElement := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		list := strings.TrimSuffix(name, "_count")
		isCount := list != name
		field, ok := nameInGo(at.Type(), name)
		if isCount {
			if field, ok = nameInGo(at.Type(), list); !ok {
				field, ok = nameInGo(at.Type(), list+"s")
			}
		}
		if !ok {
			t.Fatalf("%v has no %s", at.Type(), name)
		}
		for _, field := range strings.Split(field, ".") {
			at = s.step(at, field)
		}
		if isElement {
			at = at.Index(int(number(t, index)))
		}
		if isCount {
			at.SetLen(int(number(t, value)))
			return
		}
	}
	if at.Kind() == reflect.Pointer && value == "0" {
		at.Set(reflect.Zero(at.Type()))
		return
	}
	if at.Kind() == reflect.Pointer {
		at.Set(reflect.New(at.Type().Elem()))
		at = at.Elem()
	}
	var err error
	switch to := at.Addr().Interface().(type) {
	case *netip.Addr:
		*to, err = netip.ParseAddr(value)
	case *netip.Prefix:
		*to, err = netip.ParsePrefix(value)
	case *netip.AddrPort:
		*to, err = netip.ParseAddrPort(value)
	case *MAC:
		var parsed net.HardwareAddr
		parsed, err = net.ParseMAC(value)
		copy(to[:], parsed)
	case *bool:
		*to, err = strconv.ParseBool(value)
	default:
		var parsed uint64
		parsed, err = strconv.ParseUint(value, 10, at.Type().Bits())
		at.SetUint(parsed)
	}
	check(t, err)
}

// checkComplete fails for each field that has not been set, of a structure and of all in it.
func (s setter) checkComplete(t *testing.T, structure reflect.Type) {
	t.Helper()
	for i := 0; i < structure.NumField(); i++ {
		field := structure.Field(i)
		if name := structure.Name() + "." + field.Name; !s[name] {
			t.Errorf("%s has no row in the vectors: what does it do?", name)
		}
		of := field.Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && of.PkgPath() == structure.PkgPath() {
			s.checkComplete(t, of)
		}
	}
}

// workerOfTheVectors returns the configuration that the vectors begin with.
func workerOfTheVectors(t *testing.T, s setter) WorkerConfig {
	t.Helper()
	var config WorkerConfig
	for _, words := range lines(t, "gateway.txt") {
		if words[0] == "worker" {
			s.set(t, reflect.ValueOf(&config), words[1], words[2])
		}
	}
	return config
}

func TestEveryFieldHasTheEffectThatTheVectorsSayAndThatOneAlone(t *testing.T) {
	s := setter{}
	config := workerOfTheVectors(t, s)
	bytes, err := WorkerBytes(config)
	check(t, err)
	for _, words := range lines(t, "fields.txt") {
		field, value, effect := words[1], words[2], words[3]
		var seen string
		switch words[0] {
		case "description":
			d := world()
			s.set(t, reflect.ValueOf(&d), field, value)
			snapshot, err := Compile(&d)
			check(t, err)
			hash := fnv.New64a()
			hash.Write(snapshot.Bytes())
			seen = fmt.Sprintf("%016x", hash.Sum64())
		case "worker":
			other := config
			s.set(t, reflect.ValueOf(&other), field, value)
			otherBytes, err := WorkerBytes(other)
			check(t, err)
			seen = fmt.Sprint(otherBytes - bytes)
		default:
			t.Fatalf("a line of no kind: %v", words)
		}
		if seen != effect {
			t.Errorf("%s of %s: %s, not %s", field, value, seen, effect)
		}
	}
	s.checkComplete(t, reflect.TypeOf(Description{}))
	s.checkComplete(t, reflect.TypeOf(WorkerConfig{}))
}

// Defaults that are equal today could change places without anybody's notice.
func TestEachDefaultIsReadFromItsOwnPlace(t *testing.T) {
	type place struct {
		path   string
		offset uint64
	}
	var places []place
	var end, timeouts uint64
	for _, words := range lines(t, "layout.txt") {
		structure, field, isField := strings.Cut(strings.TrimPrefix(words[0], "weirgate_"), ".")
		if !isField || structure != "timeouts" && structure != "description" {
			if structure == "description" {
				end = number(t, words[1])
			}
			continue
		}
		offset := number(t, words[1])
		places = append(places, place{structure + "." + field, offset})
		if structure == "description" && field == "timeouts" {
			timeouts = offset
		}
	}
	bytes := make([]byte, end)
	expected := map[string]uint64{}
	for i, p := range places {
		structure, field, _ := strings.Cut(p.path, ".")
		of, offset := reflect.TypeOf(Description{}), p.offset
		if structure == "timeouts" {
			of, offset = reflect.TypeOf(Timeouts{}), offset+timeouts
		}
		name, ok := nameInGo(of, field)
		if !ok {
			continue
		}
		// In every byte, so that one read too wide or too narrow shows.
		mark := uint64(i+1) * 0x0101010101010101
		goField, _ := of.FieldByName(name)
		switch kind := goField.Type.Kind(); kind {
		case reflect.Bool:
			bytes[offset], expected[of.Name()+"."+name] = 1, 1
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			size := goField.Type.Size()
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], mark)
			copy(bytes[offset:], word[:size])
			expected[of.Name()+"."+name] = mark >> (64 - 8*size)
		}
	}
	seen := numbersIn(bytes)
	numbers := 0
	for _, structure := range []reflect.Value{reflect.ValueOf(seen), reflect.ValueOf(seen.Timeouts)} {
		for i := 0; i < structure.NumField(); i++ {
			name := structure.Type().Name() + "." + structure.Type().Field(i).Name
			var value uint64
			switch field := structure.Field(i); field.Kind() {
			case reflect.Bool:
				if field.Bool() {
					value = 1
				}
			case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
				value = field.Uint()
			default:
				continue
			}
			numbers++
			if value == 0 || value != expected[name] {
				t.Errorf("%s is %#x, not %#x", name, value, expected[name])
			}
		}
	}
	if numbers < 38 {
		t.Errorf("%d numbers", numbers)
	}
	// Two flags have but one value each that differs from nothing.
	bytes = make([]byte, end)
	for _, p := range places {
		if p.path == "description.echo_services" {
			bytes[p.offset] = 1
		}
	}
	if seen := numbersIn(bytes); !seen.EchoServices || seen.StatelessPastLimit {
		t.Error("one flag is the other")
	}
}
