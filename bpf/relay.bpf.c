// The relay inside the kernel. A frame that a rule takes is copied by a devmap to the devices of
// the rule's outputs, and the program of the devmap's entries rewrites each copy.
//
//   relay   at the input: match, mark -> devmap, or another CPU's queue
//   copy    on that CPU: mark -> devmap
//   leave   for each copy, when its device's bulk queue is emptied: rewrite, count
//   account after each emptying: which copies the device has rejected
//
// A bulk queue runs the program of its first entry for all of its frames, so the entries of a
// device cannot have programs of their own. `leave` counts instead: the n-th copy of a frame on a
// device is for the rule's n-th output there. That is right because a CPU queues all copies of a
// frame before it marks the next; `leave` checks it for each copy by the mark's sequence.
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "parse.h"

#include <bpf/bpf_tracing.h>

// The cookie of the network namespace whose devices count.
const volatile __u64 namespace_cookie = 0;

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline void count(void *map, __u32 place) {
    __u64 *number = bpf_map_lookup_elem(map, &place);
    if (number)
        ++*number;
}

static __always_inline void add(void *map, __u32 place, __u64 datagrams, __u64 bytes) {
    struct tally *tally = bpf_map_lookup_elem(map, &place);
    if (tally) {
        tally->datagrams += datagrams;
        tally->bytes += bytes;
    }
}

// Whether sizes repeat decides who relays the rule.
static __always_inline void observe(struct taken *taken, __u32 bytes) {
    taken->datagrams++;
    taken->repeats += taken->bytes == bytes;
    taken->bytes = bytes;
}

static __always_inline void take(struct taken *taken, const struct datagram *datagram,
                                 __u32 bytes) {
    taken->sum.datagrams++;
    taken->sum.bytes += bytes;
    taken->seen = bpf_ktime_get_coarse_ns();
    taken->source = datagram->source;
}

static __always_inline int pass(enum pass reason) {
    count(&passes, reason);
    return XDP_PASS;
}

// The slot of the rule that takes a datagram, plus one; 0 for none.
static __always_inline __u32 match(struct xdp_md *context, const struct datagram *datagram,
                                   __u32 phase) {
    struct sender sender = {
        .endpoint = {context->ingress_ifindex, datagram->port, datagram->vlan, datagram->group},
        .source = datagram->source,
    };
    struct entry *entry = bpf_map_lookup_elem(&endpoints, &sender.endpoint);
    if (!entry)
        return 0;
    if (entry->has_senders[phase]) {
        struct sender_entry *found = bpf_map_lookup_elem(&senders, &sender);
        if (found && found->slot[phase])
            return found->slot[phase];
    }
    return entry->slot[phase];
}

// Whether the copies of all frames that this CPU has handed to the rule's other CPU have left.
static __always_inline int is_drained(const struct slot *slot, __u32 number) {
    __u32 receiver = bpf_get_smp_processor_id(), copier = slot->cpu - 1;
    __u64 *handed = bpf_map_lookup_elem(&handed_to, &copier);
    __u64 *copied = bpf_map_lookup_percpu_elem(&copied_for, &receiver, copier);
    __u64 *last = bpf_map_lookup_percpu_elem(&last_copied, &number, copier);
    if (!handed || !copied || !last || *copied != *handed)
        return 0;
#pragma unroll
    for (int at = 0; at < MAX_LINKS; at++) {
        __u32 device = slot->link[at].device;
        struct place *place =
            at < slot->links ? bpf_map_lookup_percpu_elem(&places, &device, copier) : 0;
        if (place && place->transmitted < *last)
            return 0;
    }
    return 1;
}

// Whether the rule's state lets it take a frame now.
static __always_inline int takes(const struct slot *slot, __u32 number) {
    if (slot->mode == RELAY || slot->mode == SHED)
        return 1;
    if (slot->mode == GATE) {
        __u64 *count = bpf_map_lookup_elem(&passed, &number);
        if (!count)
            return 0;
        if (*count == slot->gate)
            return 1;
        __sync_fetch_and_add(count, 1);
        return 0;
    }
    __u64 *drain = bpf_map_lookup_elem(&drained, &number);
    if (!drain || *drain == slot->gate)
        return 0;
    if (slot->cpu && !is_drained(slot, number))
        return 1;
    *drain = slot->gate;
    return 0;
}

// Takes the VLAN tag away: devices of outputs are untagged.
static __always_inline int strip_tag(struct xdp_md *context, __be16 type) {
    if (bpf_xdp_adjust_head(context, sizeof(struct vlan_header)))
        return 0;
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = start;
    if ((void *)(ethernet + 1) > end)
        return 0;
    ethernet->h_proto = type;
    return 1;
}

static __always_inline int write_mark(struct xdp_md *context, struct mark mark) {
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct mark *place = start;
    if ((void *)place + 12 > end)
        return 0;
    place->sequence = mark.sequence;
    place->slot = mark.slot;
    place->generation = mark.generation;
    return 1;
}

// Sends the marked frame to every device of its rule.
static __always_inline int broadcast(struct xdp_md *context, struct mark mark,
                                     const struct slot *slot) {
    __u32 fan = slot->fan, zero = 0, number = mark.slot;
    void *map = bpf_map_lookup_elem(&fans, &fan);
    __u64 *sequence = bpf_map_lookup_elem(&sequences, &zero);
    __u64 *last = bpf_map_lookup_elem(&last_copied, &number);
    if (!map || !sequence || !last)
        return XDP_ABORTED;
    mark.sequence = *last = ++*sequence;
    return write_mark(context, mark) ? bpf_redirect_map(map, 0, BPF_F_BROADCAST) : XDP_ABORTED;
}

// Hands the frame to the rule's other CPU.
static __always_inline int hand_over(struct xdp_md *context, struct mark mark,
                                     const struct slot *slot) {
    __u32 copier = slot->cpu - 1;
    __u64 *handed = bpf_map_lookup_elem(&handed_to, &copier);
    if (!handed)
        return XDP_ABORTED;
    *handed = (*handed + 1) & HANDED_MASK;
    mark.sequence = *handed | (__u64)bpf_get_smp_processor_id() << HANDED_BITS;
    return write_mark(context, mark) ? bpf_redirect_map(&cpus, copier, 0) : XDP_ABORTED;
}

SEC("xdp.frags")
int relay(struct xdp_md *context) {
    __u32 zero = 0;
    struct control *state = bpf_map_lookup_elem(&control, &zero);
    if (!state || !state->on)
        return pass(PASS_OFF);
    struct datagram datagram;
    int reason = parse(context, &datagram);
    if (reason)
        return pass(reason);
    __u32 number = match(context, &datagram, state->phase & 1);
    struct slot *slot = number-- ? bpf_map_lookup_elem(&slots, &number) : 0;
    struct taken *taken = slot ? bpf_map_lookup_elem(&matched, &number) : 0;
    if (!taken)
        return pass(PASS_NO_RULE);
    reason = check(context, &datagram, slot);
    if (reason)
        return pass(reason);
    __u32 bytes = datagram.udp_bytes - sizeof(struct udphdr);
    observe(taken, bytes);
    if (!takes(slot, number))
        return pass(PASS_GATE);
    if (datagram.ip_offset > sizeof(struct ethhdr) && !strip_tag(context, datagram.type))
        return XDP_ABORTED;

    struct mark mark = {.slot = number, .generation = slot->generation};
    take(taken, &datagram, bytes);
    if (slot->mode == SHED)
        return XDP_DROP;
    if (slot->cpu)
        return hand_over(context, mark, slot);
    add(&spread, number, 1, bytes);
    return broadcast(context, mark, slot);
}

static __always_inline struct mark read_mark(struct xdp_md *context) {
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct mark *place = start, mark = {};
    if (start + 12 <= end) {
        mark.sequence = place->sequence;
        mark.slot = place->slot;
        mark.generation = place->generation;
    }
    return mark;
}

// The payload of a frame that `relay` has checked.
static __always_inline __u32 payload_bytes(struct xdp_md *context) {
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = start;
    if ((void *)(ethernet + 1) > end)
        return 0;
    void *udp = (void *)(ethernet + 1) + sizeof(struct iphdr);
    if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
        udp = (void *)(ethernet + 1) + sizeof(struct ipv6hdr);
    if (udp + sizeof(struct udphdr) > end)
        return 0;
    return bpf_ntohs(((struct udphdr *)udp)->len) - sizeof(struct udphdr);
}

SEC("xdp.frags/cpumap")
int copy(struct xdp_md *context) {
    struct mark mark = read_mark(context);
    int action;
    __u32 number = mark.slot, receiver = mark.sequence >> HANDED_BITS;
    struct slot *slot = bpf_map_lookup_elem(&slots, &number);
    __u64 *copied = bpf_map_lookup_elem(&copied_for, &receiver);
    if (!slot)
        return XDP_ABORTED;
    if (slot->generation != mark.generation) {
        count(&refusals, REFUSED_STALE);
        action = XDP_DROP;
    } else {
        add(&spread, number, 1, payload_bytes(context));
        action = broadcast(context, mark, slot);
    }
    // After `last_copied`, which `is_drained` reads then.
    if (copied)
        *copied = mark.sequence & HANDED_MASK;
    return action;
}

static __always_inline int refuse(struct place *place, enum refusal reason) {
    if (place)
        place->refused++;
    count(&refusals, reason);
    return XDP_DROP;
}

// The number of the output that this copy is for. -1: refused.
static __always_inline long locate(struct place *place, const struct link *link, __u64 sequence) {
    if (sequence < place->sequence) {
        refuse(place, REFUSED_DISORDER);
        return -1;
    }
    place->nth = sequence == place->sequence ? place->nth + 1 : 0;
    place->sequence = sequence;
    if (place->nth >= link->count) {
        refuse(place, REFUSED_EXCESS);
        return -1;
    }
    return link->first + place->nth;
}

static __always_inline int rewrite(struct xdp_md *context, const struct output *output) {
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = start;
    void *network = ethernet + 1;
    if (network > end)
        return 0;
    __builtin_memcpy(ethernet->h_dest, output->destination_mac, ETH_ALEN);
    __builtin_memcpy(ethernet->h_source, output->source_mac, ETH_ALEN);
    return ethernet->h_proto == bpf_htons(ETH_P_IP) ? rewrite_ipv4(network, end, output)
                                                    : rewrite_ipv6(network, end, output);
}

SEC("xdp.frags/devmap")
int leave(struct xdp_md *context) {
    struct mark mark = read_mark(context);
    __u32 number = mark.slot, bytes = payload_bytes(context), ifindex = context->egress_ifindex;
    struct slot *slot = bpf_map_lookup_elem(&slots, &number);
    struct link *link = 0;
    if (slot) {
#pragma unroll
        for (int at = 0; at < MAX_LINKS; at++)
            if (at < slot->links && slot->link[at].ifindex == ifindex)
                link = &slot->link[at];
    }
    if (!link || slot->generation != mark.generation) {
        __u32 *device = bpf_map_lookup_elem(&devices, &ifindex);
        return refuse(device ? bpf_map_lookup_elem(&places, device) : 0, REFUSED_STALE);
    }
    __u32 device = link->device;
    struct place *place = bpf_map_lookup_elem(&places, &device);
    long found = place ? locate(place, link, mark.sequence) : -1;
    if (found < 0)
        return XDP_DROP;
    __u32 at = found, next = place->next++ % BULK;
    struct output *output = bpf_map_lookup_elem(&outputs, &at);
    if (!output || !rewrite(context, output))
        return refuse(place, REFUSED_STALE);
    place->queued++;
    place->recent[next] = at;
    place->recent_bytes[next] = bytes;
    add(&handed, at, 1, bytes);
    return XDP_PASS;
}

// The parts of kernel structures that are read; their places are found when the object is loaded.
struct net {
    __u64 net_cookie;
} __attribute__((preserve_access_index));
typedef struct {
    struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;
struct net_device {
    int ifindex;
    possible_net_t nd_net;
} __attribute__((preserve_access_index));

// A device sends the frames of its bulk queue in their order, and rejects all after the first that
// it cannot: the last `rejected_frames` of those that `leave` let through.
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(account, const struct net_device *from, const struct net_device *to, int sent,
             int drops, int error) {
    if (to->nd_net.net->net_cookie != namespace_cookie)
        return 0;
    __u32 ifindex = to->ifindex;
    __u32 *device = bpf_map_lookup_elem(&devices, &ifindex);
    struct place *place = device ? bpf_map_lookup_elem(&places, device) : 0;
    if (!place)
        return 0;
    __u32 queued = place->queued, lost = drops;
    lost -= lost > place->refused ? place->refused : lost;
    place->refused = 0;
    place->queued = 0;
    place->transmitted = place->sequence;
    // Without copies of ours these are frames of another program.
    if (!queued)
        return 0;
    add(&transmissions, *device, sent, lost);
    for (__u32 back = 1; back <= BULK && back <= lost; back++) {
        __u32 at = (place->next - back) % BULK;
        add(&rejected, place->recent[at], 1, place->recent_bytes[at]);
    }
    return 0;
}

SEC("tp_btf/xdp_cpumap_enqueue")
int BPF_PROG(overflow, int map_id, unsigned int processed, unsigned int drops, int to_cpu) {
    __u32 zero = 0, *id = bpf_map_lookup_elem(&own, &zero);
    __u64 *number = id && *id == (__u32)map_id ? bpf_map_lookup_elem(&overflows, &zero) : 0;
    if (number)
        *number += drops;
    return 0;
}
