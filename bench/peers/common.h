/* What the benchmark programs share: addresses, sockets, clocks. Each program is one file that includes this. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/types.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (4 << 20)
#define TTL 8 /* more than 1, so that kernel multicast routing forwards it */
#define SECOND_NS 1000000000LL
#define MAX_LATE_NS 1000000LL

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline void check(int result, const char *what)
{
	if (result < 0)
		die(what);
}

static inline int64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* Reads "a.b.c.d:port". */
static inline struct sockaddr_in endpoint(const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	char host[INET_ADDRSTRLEN] = {0};
	const char *colon = strchr(text, ':');
	if (!colon || colon - text >= INET_ADDRSTRLEN) {
		fprintf(stderr, "not an endpoint: %s\n", text);
		exit(2);
	}
	memcpy(host, text, (size_t)(colon - text));
	address.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		fprintf(stderr, "not an address: %s\n", host);
		exit(2);
	}
	return address;
}

static inline int interface_index(const char *name)
{
	unsigned index = if_nametoindex(name);
	if (index == 0)
		die(name);
	return (int)index;
}

/* A UDP socket connected to a group, leaving by one interface. */
static inline int open_output(int ifindex, const char *text)
{
	struct sockaddr_in to = endpoint(text);
	struct ip_mreqn via = {.imr_ifindex = ifindex};
	int ttl = TTL, bytes = BUFFER_BYTES, fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(fd, "socket");
	check(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof via), "IP_MULTICAST_IF");
	check(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl), "IP_MULTICAST_TTL");
	check(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes), "SO_SNDBUFFORCE");
	check(connect(fd, (struct sockaddr *)&to, sizeof to), text);
	return fd;
}

/* A UDP socket bound to a group and joined on one interface, with a forced receive buffer. */
static inline int open_input(int ifindex, const char *text, int buffer_bytes)
{
	struct sockaddr_in group = endpoint(text);
	struct ip_mreqn join = {.imr_multiaddr = group.sin_addr, .imr_ifindex = ifindex};
	int one = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(fd, "socket");
	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	check(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes), "SO_RCVBUFFORCE");
	check(bind(fd, (struct sockaddr *)&group, sizeof group), text);
	check(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), "IP_ADD_MEMBERSHIP");
	return fd;
}

/* The end of a generator's JSON object: what it has sent in each flow. */
static inline void print_flows(const uint32_t *sent, uint32_t flows)
{
	printf("\"flows\": [");
	for (uint32_t flow = 0; flow < flows; flow++)
		printf("%s%u", flow == 0 ? "" : ", ", sent[flow]);
	printf("]}\n");
}

/*
 * Waits for a point of CLOCK_MONOTONIC and returns it, or the present where it is long past: after a pause of the
 * machine the schedule moves on instead of catching up in a burst. Short waits spin, long ones sleep.
 */
static inline int64_t wait_until(int64_t due_ns)
{
	int64_t left_ns = due_ns - now_ns(CLOCK_MONOTONIC);
	if (left_ns < -MAX_LATE_NS)
		return due_ns - left_ns;
	if (left_ns > 200000) {
		struct timespec t = {.tv_sec = due_ns / SECOND_NS, .tv_nsec = due_ns % SECOND_NS};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
	while (now_ns(CLOCK_MONOTONIC) < due_ns) {
	}
	return due_ns;
}

#endif
