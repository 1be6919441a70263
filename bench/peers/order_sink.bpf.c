/*
 * The kernel's part of order_sink.c: counts numbered datagrams to 239.X.OUTPUT.FLOW by output and flow, checks their
 * order, and drops them.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "order_sink.h"

struct numbered {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	__u32 number;
} __attribute__((packed));

struct sink_flow flows[SINK_OUTPUTS * SINK_FLOWS];

static __always_inline int count(const struct numbered *head)
{
	__u32 group = bpf_ntohl(head->ip.daddr), number = bpf_ntohl(head->number);
	if (head->ip.ihl != 5 || head->ip.protocol != IPPROTO_UDP || group >> 24 != 239)
		return 0;
	struct sink_flow *flow = &flows[group & (SINK_OUTPUTS * SINK_FLOWS - 1)];
	__sync_fetch_and_add(&flow->frames, 1);
	__sync_fetch_and_add(&flow->bytes, bpf_ntohs(head->udp.len) - sizeof head->udp);
	/* One core delivers a flow at a time. */
	if ((__s32)(number - flow->next) < 0)
		flow->late++;
	else
		flow->next = number + 1;
	return 1;
}

SEC("tc") int order_sink(struct __sk_buff *frame)
{
	struct numbered head;
	if (frame->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(frame, 0, &head, sizeof head))
		return TC_ACT_OK;
	return count(&head) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("xdp") int card_sink(struct xdp_md *frame)
{
	const struct numbered *head = (void *)(long)frame->data;
	if ((void *)(head + 1) > (void *)(long)frame->data_end || head->ethernet.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return count(head) ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "GPL";
