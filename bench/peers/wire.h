/* What wire.c tells its kernel part. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#define WIRE_FLOWS 256 /* a power of two; the program distributes 8 random bits among the flows */
#define WIRE_TTL 8
#define WIRE_SOURCE_PORT 40000

/* Addresses and ports in host order; sizes of the payload in bytes, at least the 4 of the number. */
struct wire_plan {
	__u32 source, group, port, flows, least, most;
	__u32 redirect_to; /* interface index; 0: passed to the stack as received */
};

#endif
