/* What order_sink.c reads from its kernel part. */
#ifndef BENCH_ORDER_SINK_H
#define BENCH_ORDER_SINK_H

#define SINK_OUTPUTS 64
#define SINK_FLOWS 256

/* The copies of one flow at one output. */
struct sink_flow {
	__u64 frames, bytes;
	__u32 next; /* the lowest number that is still in order */
	__u32 late; /* copies with a lower number: reordered, or sent twice */
};

#endif
