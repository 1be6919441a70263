/*
 * The kernel's part of wire.c: each run makes one numbered datagram of a random flow and size, with complete
 * checksums. All headers are written each time, because a page returns as the last receiver has left it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

const volatile struct wire_plan plan;
__u32 sent[WIRE_FLOWS];

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

static __always_inline __u32 halves(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

static __always_inline void write_ethernet(struct ethhdr *ethernet, __u32 group)
{
	const __u8 header[ETH_HLEN] = {1, 0, 0x5e, (group >> 16) & 0x7f, group >> 8, group, 2, 0, 0, 0, 0, 1, 8, 0};
	__builtin_memcpy(ethernet, header, sizeof header);
}

static __always_inline void write_ip(struct iphdr *ip, __u32 group, __u32 size)
{
	__u16 *words = (__u16 *)ip;
	__u32 sum = 0;
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(size + sizeof *ip + sizeof(struct udphdr));
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = WIRE_TTL;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = bpf_htonl(plan.source);
	ip->daddr = bpf_htonl(group);
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	ip->check = fold(sum);
}

static __always_inline void write_udp(struct udphdr *udp, const struct iphdr *ip, __u32 flow, __u32 size, __u32 number)
{
	__u32 sum;
	udp->source = bpf_htons(WIRE_SOURCE_PORT + flow);
	udp->dest = bpf_htons(plan.port);
	udp->len = bpf_htons(size + sizeof *udp);
	*(__u32 *)(udp + 1) = bpf_htonl(number);
	/* All other payload is zero. */
	sum = halves(ip->saddr) + halves(ip->daddr) + bpf_htons(IPPROTO_UDP) + 2 * (__u32)udp->len + udp->source +
	      udp->dest + halves(bpf_htonl(number));
	udp->check = fold(sum);
	if (udp->check == 0)
		udp->check = 0xffff;
}

SEC("xdp") int wire(struct xdp_md *context)
{
	void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = start;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 random = bpf_get_prandom_u32(), size = plan.least + (random >> 8) % (plan.most - plan.least + 1);
	__u32 flow = (random & 0xff) * plan.flows >> 8, group = plan.group + flow;
	if ((void *)(udp + 1) + sizeof(__u32) > end)
		return XDP_ABORTED;
	write_ethernet(ethernet, group);
	write_ip(ip, group, size);
	write_udp(udp, ip, flow, size, sent[flow & (WIRE_FLOWS - 1)]++);
	if (bpf_xdp_adjust_tail(context, (int)size - (int)plan.most))
		return XDP_ABORTED;
	return plan.redirect_to ? bpf_redirect(plan.redirect_to, 0) : XDP_PASS;
}

char _license[] SEC("license") = "GPL";
