// Finds the datagram in a frame, and whether it can be relayed here. Nothing is changed.
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#ifndef MCR_PARSE_H
#define MCR_PARSE_H

#include "rewrite.h"

#define DONT_FRAGMENT 0x4000
// The longest datagram whose checksum is computed: a page less what the kernel needs of it.
#define MAX_SUMMED 4096
#define CHUNK 64

struct vlan_header {
    __be16 tci;
    __be16 type;
};

// A datagram, still in its frame. Offsets and lengths are in bytes.
struct datagram {
    __u32 ip_offset;
    __u32 udp_offset;
    __u32 ip_bytes;    // the IP packet
    __u32 ip_room;     // from the IP header to the end of the frame
    __u16 udp_bytes;   // header and payload
    __be16 type;       // of Ethernet: the IP version
    __be16 port;
    __u16 vlan;
    __u16 checksum;    // of UDP
    __u8 ttl;
    struct address source, group;
    __u64 pseudo_sum;  // of UDP's pseudo header
    __u64 header_sum;  // of the IPv4 header; 0xffff once folded if it is right
};

static __always_inline int parse_ipv4(void *start, void *end, struct datagram *datagram) {
    struct iphdr *ip = start;
    struct udphdr *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > end || ip->version != 4 || ip->protocol != IPPROTO_UDP)
        return PASS_OTHER;
    if (ip->ihl != 5 || ip->frag_off & ~bpf_htons(DONT_FRAGMENT))
        return PASS_FRAGMENT;
    __u32 *words = start;
    datagram->header_sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
    datagram->udp_offset = datagram->ip_offset + sizeof(*ip);
    datagram->ip_bytes = bpf_ntohs(ip->tot_len);
    datagram->ttl = ip->ttl;
    datagram->source = (struct address){{0, 0, bpf_htonl(0xffff), ip->saddr}};
    datagram->group = (struct address){{0, 0, bpf_htonl(0xffff), ip->daddr}};
    datagram->pseudo_sum = (__u64)ip->saddr + ip->daddr;
    datagram->port = udp->dest;
    datagram->udp_bytes = bpf_ntohs(udp->len);
    datagram->checksum = udp->check;
    return 0;
}

static __always_inline int parse_ipv6(void *start, void *end, struct datagram *datagram) {
    struct ipv6hdr *ip = start;
    struct udphdr *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > end || ip->version != 6)
        return PASS_OTHER;
    if (ip->nexthdr != IPPROTO_UDP)
        return PASS_FRAGMENT;
    datagram->header_sum = 0xffff;
    datagram->udp_offset = datagram->ip_offset + sizeof(*ip);
    datagram->ip_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
    datagram->ttl = ip->hop_limit;
    __be32 *source = ip->saddr.in6_u.u6_addr32, *group = ip->daddr.in6_u.u6_addr32;
    __u64 sum = 0;
#pragma unroll
    for (int word = 0; word < 4; word++) {
        datagram->source.words[word] = source[word];
        datagram->group.words[word] = group[word];
        sum += (__u64)source[word] + group[word];
    }
    datagram->pseudo_sum = sum;
    datagram->port = udp->dest;
    datagram->udp_bytes = bpf_ntohs(udp->len);
    datagram->checksum = udp->check;
    return 0;
}

// Reads the headers. Returns 0 or the reason to pass the frame.
static __always_inline int parse(struct xdp_md *context, struct datagram *datagram) {
    void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
    struct ethhdr *ethernet = start;
    void *network = ethernet + 1;
    if (network > end || !(ethernet->h_dest[0] & 1))
        return PASS_OTHER;
    datagram->type = ethernet->h_proto;
    datagram->vlan = 0;
    datagram->ip_offset = sizeof(*ethernet);
    if (datagram->type == bpf_htons(ETH_P_8021Q)) {
        struct vlan_header *tag = network;
        network = tag + 1;
        if (network > end)
            return PASS_OTHER;
        datagram->type = tag->type;
        datagram->vlan = bpf_ntohs(tag->tci) & 0x0fff;
        datagram->ip_offset += sizeof(*tag);
    }
    datagram->ip_room = end - network;
    if (datagram->type == bpf_htons(ETH_P_IP))
        return parse_ipv4(network, end, datagram);
    if (datagram->type == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(network, end, datagram);
    return PASS_OTHER;
}

// Whether the UDP checksum is that of the whole datagram.
static __noinline int is_complete(struct xdp_md *context, __u32 offset, __u32 bytes, __u32 sum) {
    __u8 chunk[CHUNK];
    for (int count = 0; count < MAX_SUMMED / CHUNK; count++) {
        __u32 size = bytes < CHUNK ? bytes : CHUNK;
        if (size == 0)
            break;
        __builtin_memset(chunk, 0, sizeof(chunk));
        if (bpf_xdp_load_bytes(context, offset, chunk, size))
            return 0;
        sum = bpf_csum_diff(0, 0, (__be32 *)chunk, sizeof(chunk), sum);
        offset += size;
        bytes -= size;
    }
    return bytes == 0 && fold(sum) == 0xffff;
}

// Whether the checksum is still to be computed by a device, as for a sender on this host: it then
// is the sum of the pseudo header. A finished one may have this value by chance, therefore the
// second look. 0 stands for "none" in IPv4.
static __always_inline int is_unfinished(struct xdp_md *context, const struct datagram *datagram) {
    __u16 length = bpf_htons(datagram->udp_bytes);
    __u64 sum = datagram->pseudo_sum + bpf_htons(IPPROTO_UDP) + length;
    __u16 pseudo = fold(sum);
    if (datagram->checksum != pseudo)
        return 0;
    return !is_complete(context, datagram->udp_offset, datagram->udp_bytes, pseudo);
}

// Whether the headers agree with each other and every output can carry the datagram: 0 or the
// reason to pass the frame.
static __always_inline int check(struct xdp_md *context, const struct datagram *datagram,
                                 const struct slot *slot) {
    __u32 ip_header = datagram->udp_offset - datagram->ip_offset;
    if (fold(datagram->header_sum) != 0xffff || datagram->udp_bytes < sizeof(struct udphdr) ||
        datagram->ip_bytes != ip_header + datagram->udp_bytes)
        return PASS_BAD_HEADER;
    if (datagram->checksum == 0 && datagram->type == bpf_htons(ETH_P_IPV6))
        return PASS_BAD_HEADER;
    // The frame's other buffers, if it has some, are behind its end.
    if (datagram->ip_bytes > datagram->ip_room || datagram->ip_room > slot->max_bytes)
        return PASS_TOO_LONG;
    if (datagram->ttl < slot->min_ttl)
        return PASS_TTL;
    return is_unfinished(context, datagram) ? PASS_UNFINISHED : 0;
}

#endif
