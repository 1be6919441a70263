// Rewrites the headers of one copy. Checksums are updated, never computed: a wrong one stays wrong.
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#ifndef MCR_REWRITE_H
#define MCR_REWRITE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "layout.h"

// The sum of RFC 1071 in 16 bits.
static __always_inline __u16 fold(__u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

// What replacing `old` by `new` adds to a sum (RFC 1624).
static __always_inline __u64 change(__u32 old, __u32 new) {
    return (__u64)(__u32)~old + new;
}

static __always_inline __u64 change16(__u16 old, __u16 new) {
    return (__u64)(__u16)~old + new;
}

static __always_inline __u16 update(__u16 checksum, __u64 changes) {
    return ~fold((__u16)~checksum + changes);
}

static __always_inline __u8 new_ttl(__u8 ttl, const struct output *output) {
    if (output->flags & KEEP_TTL)
        return ttl;
    return output->flags & DECREMENT_TTL ? ttl - 1 : output->ttl;
}

// The traffic class: the code point, with congestion notification off, as from a socket.
static __always_inline __u8 new_class(__u8 class, const struct output *output) {
    return output->flags & KEEP_DSCP ? class & 0xfc : output->traffic_class;
}

// Ports and the UDP checksum; `changes` of the addresses are the pseudo header's. 0 means that
// there is no checksum.
static __always_inline void rewrite_udp(struct udphdr *udp, const struct output *output,
                                        __u64 changes) {
    __be16 source = output->flags & KEEP_SOURCE_PORT ? udp->source : output->source_port;
    changes += change16(udp->source, source) + change16(udp->dest, output->port);
    udp->source = source;
    udp->dest = output->port;
    if (udp->check) {
        __u16 sum = update(udp->check, changes);
        udp->check = sum ? sum : 0xffff;
    }
}

static __always_inline int rewrite_ipv4(void *start, void *end, const struct output *output) {
    struct iphdr *ip = start;
    struct udphdr *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > end)
        return 0;
    __be32 source = output->flags & KEEP_SOURCE ? ip->saddr : output->source.words[3];
    __u64 changes = change(ip->saddr, source) + change(ip->daddr, output->destination.words[3]);
    ip->saddr = source;
    ip->daddr = output->destination.words[3];
    rewrite_udp(udp, output, changes);

    __u16 *words = (void *)ip;
    __u16 old_class = words[0], old_ttl = words[4];
    ip->tos = new_class(ip->tos, output);
    ip->ttl = new_ttl(ip->ttl, output);
    changes += change16(old_class, words[0]) + change16(old_ttl, words[4]);
    ip->check = update(ip->check, changes);
    return 1;
}

static __always_inline int rewrite_ipv6(void *start, void *end, const struct output *output) {
    struct ipv6hdr *ip = start;
    struct udphdr *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > end)
        return 0;
    __be32 *old_source = ip->saddr.in6_u.u6_addr32, *old_group = ip->daddr.in6_u.u6_addr32;
    __u64 changes = 0;
#pragma unroll
    for (int word = 0; word < 4; word++) {
        if (!(output->flags & KEEP_SOURCE)) {
            changes += change(old_source[word], output->source.words[word]);
            old_source[word] = output->source.words[word];
        }
        changes += change(old_group[word], output->destination.words[word]);
        old_group[word] = output->destination.words[word];
    }
    rewrite_udp(udp, output, changes);

    __be16 *first = start;
    __u8 class = new_class(bpf_ntohs(*first) >> 4, output);
    *first = bpf_htons(0x6000 | (__u16)class << 4 | (bpf_ntohs(*first) & 0x000f));
    ip->hop_limit = new_ttl(ip->hop_limit, output);
    return 1;
}

#endif
