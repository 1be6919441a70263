// What the programs share with rust/offload/layout.rs: map keys and values, and the maps. All
// addresses are 128 bits wide in network order, IPv4 in its mapped form (RFC 4291, 2.5.5.2).
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#ifndef MCR_LAYOUT_H
#define MCR_LAYOUT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// Devices over which the outputs of one rule can be spread.
#define MAX_LINKS 8
// Frames that a device's bulk queue holds at most (DEV_MAP_BULK_SIZE in the kernel).
#define BULK 16
// The bits of a number between two CPUs.
#define HANDED_BITS 48
#define HANDED_MASK (((__u64)1 << HANDED_BITS) - 1)

struct address {
    __be32 words[4];
};

// A group and port on an interface; `vlan` is 0 for untagged frames.
struct endpoint {
    __u32 ifindex;
    __be16 port;
    __u16 vlan;
    struct address group;
};

struct sender {
    struct endpoint endpoint;
    struct address source;
};

// The rules of an endpoint, for each of the two phases of `control`: the slot of the rule for any
// sender plus one, or 0; and whether the map `senders` has rules for single senders.
struct entry {
    __u32 slot[2];
    __u32 has_senders[2];
};

// The same for one sender: a slot plus one, or 0.
struct sender_entry {
    __u32 slot[2];
};

// The consecutive outputs of a rule on one device. `device` numbers the device for `places`.
struct link {
    __u32 ifindex;
    __u32 first;
    __u16 count;
    __u16 device;
};

// How a slot's frames are handled.
enum mode {
    // Relayed.
    RELAY,
    // Passed and counted in `passed`, until that count is `gate`; then relayed.
    GATE,
    // Handed to the other CPU until the copies of all frames handed before have left; then passed.
    DRAIN,
    // Taken and lost, as what a full queue does not accept.
    SHED,
};

// A rule. Its number is the position in `slots`.
struct slot {
    // Changes whenever the slot gets a new rule.
    __u16 generation;
    // The entries of `link` in use.
    __u16 links;
    // The longest IP packet that every output can carry.
    __u16 max_bytes;
    // The smallest TTL that every output can carry.
    __u8 min_ttl;
    // One of `enum mode`.
    __u8 mode;
    // The position in `fans` of the devmap with an entry for each output.
    __u32 fan;
    // The CPU that copies, plus one; 0 for the one that receives.
    __u32 cpu;
    // In mode GATE the count that opens it; in mode DRAIN the number of the drain.
    __u64 gate;
    struct link link[MAX_LINKS];
};

#define KEEP_SOURCE 1
#define KEEP_SOURCE_PORT 2
#define KEEP_TTL 4
#define DECREMENT_TTL 8
#define KEEP_DSCP 16

struct output {
    struct address source, destination;
    __be16 source_port, port;
    __u8 destination_mac[6], source_mac[6];
    __u8 ttl, traffic_class, flags, unused;
};

struct tally {
    __u64 datagrams, bytes;
};

// What a rule has taken on one CPU, and the last of it: when, in nanoseconds of
// CLOCK_MONOTONIC_COARSE, and from whom. Then what it has seen, taken or passed: its datagrams,
// those of them that were as long as the one before, and the length of the last one.
struct taken {
    struct tally sum;
    __u64 seen;
    struct address source;
    __u64 datagrams, repeats, bytes;
};

// `phase` selects the entries in force; a frame sees one state of it.
struct control {
    __u32 phase, on;
};

// Why a frame was passed on to the network stack.
enum pass {
    PASS_OFF,         // relaying is switched off
    PASS_OTHER,       // not UDP over IP to a group, or not in a form that can be relayed here
    PASS_FRAGMENT,    // a fragment, or IP options or extension headers
    PASS_NO_RULE,     // no rule here has this interface, VLAN, group, port and sender
    PASS_BAD_HEADER,  // a checksum or length of the headers is wrong
    PASS_TOO_LONG,    // longer than an output can carry, or in several buffers
    PASS_TTL,         // its TTL would be used up
    PASS_UNFINISHED,  // a local sender left the checksum to the device
    PASS_GATE,        // the rule waits for the engine to finish, or the engine takes it over
    PASSES,
};

// Why a copy was not handed to its device.
enum refusal {
    REFUSED_STALE,     // the rule was replaced long before
    REFUSED_DISORDER,  // copies of several frames were mixed, so its output is unknown
    REFUSED_EXCESS,    // there were more copies than outputs on the device
    REFUSALS,
};

// Written over both MAC addresses, which every copy gets anew. `sequence` numbers the frames that
// a CPU copies; between two CPUs it numbers those handed, and its upper 16 bits are the CPU that
// received.
struct mark {
    __u64 sequence;
    __u16 slot;
    __u16 generation;
};

// The place in the outputs on one device, on one CPU.
struct place {
    __u64 sequence;
    __u32 nth;
    __u32 refused;  // copies since the device's queue was emptied
    __u32 queued;   // those of them that `leave` let through
    __u32 next;     // the position in the arrays below
    __u32 recent[BULK];  // outputs whose copies are queued
    __u32 recent_bytes[BULK];
    __u64 transmitted;  // the last sequence whose copies the device has got
};

#define MAP(map_name, map_type, key_type, value_type, entries)                                     \
    struct {                                                                                       \
        __uint(type, map_type);                                                                    \
        __uint(max_entries, entries);                                                              \
        __type(key, key_type);                                                                     \
        __type(value, value_type);                                                                 \
    } map_name SEC(".maps")

// The loader sets the sizes that are 1 here and depend on the number of rules or devices.
MAP(control, BPF_MAP_TYPE_ARRAY, __u32, struct control, 1);
MAP(endpoints, BPF_MAP_TYPE_HASH, struct endpoint, struct entry, 1);
MAP(senders, BPF_MAP_TYPE_HASH, struct sender, struct sender_entry, 1);
MAP(slots, BPF_MAP_TYPE_ARRAY, __u32, struct slot, 1);
MAP(outputs, BPF_MAP_TYPE_ARRAY, __u32, struct output, 1);
MAP(cpus, BPF_MAP_TYPE_CPUMAP, __u32, struct bpf_cpumap_val, 1);
MAP(places, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct place, 1);
// The sequence of the last frame that a CPU has copied, and by slot that of the rule's last frame.
MAP(sequences, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
MAP(last_copied, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
// By CPU: the number of the last frame that the own CPU has handed to it, and of the last that it
// has handed to the own CPU, which has copied it.
MAP(handed_to, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
MAP(copied_for, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
// By slot: in mode GATE the frames passed; in mode DRAIN the last drain that is complete.
MAP(passed, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);
MAP(drained, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
// By slot: datagrams taken, and those of them that arrived at the copying CPU.
MAP(matched, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct taken, 1);
MAP(spread, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct tally, 1);
// By output: copies handed to the device, and those of them that the device did not accept.
MAP(handed, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct tally, 1);
MAP(rejected, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct tally, 1);
MAP(passes, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, PASSES);
MAP(refusals, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, REFUSALS);
// Devices by their index; the number for `places`.
MAP(devices, BPF_MAP_TYPE_HASH, __u32, __u32, 1);
// By device number: what the device accepted and what it did not; by CPU.
MAP(transmissions, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct tally, 1);
// Frames that the other CPU's queue did not accept.
MAP(overflows, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
// The identifier of the map `cpus`.
MAP(own, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1);

struct fan {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bpf_devmap_val));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct fan);
} fans SEC(".maps");

#endif
