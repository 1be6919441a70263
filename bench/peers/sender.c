/*
 * Sends constant datagrams to groups in turn, with UDP_SEGMENT batches: the traffic generator in front of a relay, and
 * beside it the bare sender that shows what sending alone costs.
 *
 * usage: sender [-s SIZE] [-m LEAST] [-g GATHERED] [-p] [-b BATCH] [-v STEPS] [-r RATE] [-t SECONDS] [-n COUNT]
 *               INTERFACE GROUP:PORT...
 *
 * BATCH datagrams go in one send (1: plain sends; default: as many as a send takes, at most 64); RATE is in datagrams
 * a second over all groups (0: unpaced), kept by rounds of one send to each. With STEPS and plain sends the sizes of a
 * group's datagrams rise by one up to SIZE in so many steps and begin anew, so that no two in a row can leave a relay
 * in one send. With LEAST, which implies plain sends, sizes are random from LEAST to SIZE, and payloads begin with the
 * number of the datagram in its group (32 bits, network order). With LEAST and GATHERED, so many datagrams of random
 * sizes, made once, go to each group in one system call (sendmmsg), unnumbered and unpaced. With -p datagrams are RTP
 * packets, whose sequence numbers count those of their group. Ends after SECONDS or COUNT or SIGTERM and prints
 * {"sent":..., "seconds":..., "flows": [...]}; "flows" counts the datagrams of each group.
 */
#include "common.h"
#include <signal.h>

#define MAX_SEND_BYTES 65507
#define MAX_SEGMENTS 64

static volatile sig_atomic_t stopped;
static char buffer[1 << 16];

static void stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

struct plan {
	int size, least, gathered, batch, steps;
	bool rtp;
	double rate, seconds;
	int64_t count;
};

static struct plan read_options(int argc, char **argv)
{
	struct plan plan = {.size = 1400, .steps = 1, .seconds = 1e9};
	for (int option; (option = getopt(argc, argv, "s:m:g:pb:v:r:t:n:")) != -1;) {
		switch (option) {
		case 's': plan.size = atoi(optarg); break;
		case 'm': plan.least = atoi(optarg); break;
		case 'g': plan.gathered = atoi(optarg); break;
		case 'p': plan.rtp = true; break;
		case 'b': plan.batch = atoi(optarg); break;
		case 'v': plan.steps = atoi(optarg); break;
		case 'r': plan.rate = atof(optarg); break;
		case 't': plan.seconds = atof(optarg); break;
		case 'n': plan.count = atoll(optarg); break;
		default: exit(2);
		}
	}
	bool gathers = plan.gathered == 0 || (plan.least > 0 && plan.gathered > 0 && plan.gathered <= MAX_SEGMENTS);
	bool fits = plan.least == 0 || (plan.least >= (int)sizeof(uint32_t) && plan.least <= plan.size);
	if (!fits || !gathers || plan.steps < 1 || plan.size < plan.steps || plan.size > MAX_SEND_BYTES || argc - optind < 2) {
		fprintf(stderr, "usage: sender [options] INTERFACE GROUP:PORT...\n");
		exit(2);
	}
	int most = MAX_SEND_BYTES / plan.size;
	if (most > MAX_SEGMENTS)
		most = MAX_SEGMENTS;
	if (plan.least > 0)
		most = 1;
	if (plan.batch < 1 || plan.batch > most)
		plan.batch = most;
	if (plan.count > 0 && plan.count < plan.batch)
		plan.batch = (int)plan.count;
	return plan;
}

/* Writes the number of a datagram and gives its random size (xorshift, Marsaglia 2003). */
static size_t number_datagram(const struct plan *plan, uint32_t number)
{
	static uint64_t state = 88172645463325252ull;
	uint32_t order = htonl(number);
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	memcpy(buffer, &order, sizeof order);
	return (size_t)plan->least + (size_t)(state >> 32) % (size_t)(plan->size - plan->least + 1);
}

/* Writes the RTP headers of a batch (RFC 3550): version 2, payload type 96, the number, no time stamp, one source. */
static void number_packets(const struct plan *plan, uint32_t first)
{
	for (int i = 0; i < plan->batch; i++) {
		uint16_t head[6] = {htons(0x8060), htons((uint16_t)(first + (uint32_t)i)), 0, 0, 0, htons(1)};
		memcpy(buffer + (size_t)i * (size_t)plan->size, head, sizeof head);
	}
}

static int64_t run_gathered(const struct plan *plan, const int *outputs, uint32_t *flows, int count)
{
	struct mmsghdr messages[MAX_SEGMENTS] = {0};
	struct iovec pieces[MAX_SEGMENTS];
	int64_t end = now_ns(CLOCK_MONOTONIC) + (int64_t)(plan->seconds * 1e9), total = 0;
	for (int i = 0; i < plan->gathered; i++) {
		pieces[i] = (struct iovec){buffer, number_datagram(plan, 0)};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
	}
	for (int i = 0; !stopped && (plan->count == 0 || total < plan->count); i = (i + 1) % count) {
		if (now_ns(CLOCK_MONOTONIC) >= end)
			break;
		int sent = sendmmsg(outputs[i], messages, (unsigned)plan->gathered, 0);
		if (sent > 0) {
			total += sent;
			flows[i] += (uint32_t)sent;
		}
	}
	return total;
}

static int64_t run(const struct plan *plan, const int *outputs, uint32_t *flows, int count)
{
	size_t most = (size_t)plan->size * (size_t)plan->batch, bytes = most - (size_t)plan->steps + 1;
	int64_t start = now_ns(CLOCK_MONOTONIC), end = start + (int64_t)(plan->seconds * 1e9), sent = 0;
	double due = (double)start, step = plan->rate > 0 ? 1e9 * plan->batch * count / plan->rate : 0;
	for (int i = 0; !stopped && (plan->count == 0 || sent < plan->count); i = (i + 1) % count) {
		if (step > 0 && i == 0) {
			int64_t planned = (int64_t)due, reached = wait_until(planned);
			due += step + (double)(reached - planned);
		}
		if (now_ns(CLOCK_MONOTONIC) >= end)
			break;
		if (plan->least > 0)
			bytes = number_datagram(plan, flows[i]);
		if (plan->rtp)
			number_packets(plan, flows[i]);
		if (send(outputs[i], buffer, bytes, 0) == (ssize_t)bytes) {
			sent += plan->batch;
			flows[i] += (uint32_t)plan->batch;
		}
		if (i == count - 1)
			bytes = bytes == most ? most - (size_t)plan->steps + 1 : bytes + 1;
	}
	return sent;
}

int main(int argc, char **argv)
{
	struct plan plan = read_options(argc, argv);
	int count = argc - optind - 1, ifindex = interface_index(argv[optind]);
	int *outputs = calloc((size_t)count, sizeof *outputs);
	uint32_t *flows = calloc((size_t)count, sizeof *flows);
	if (!outputs || !flows)
		die("calloc");
	for (int i = 0; i < count; i++) {
		outputs[i] = open_output(ifindex, argv[optind + 1 + i]);
		if (plan.batch > 1)
			check(setsockopt(outputs[i], IPPROTO_UDP, UDP_SEGMENT, &plan.size, sizeof plan.size), "UDP_SEGMENT");
	}
	signal(SIGTERM, stop);
	signal(SIGINT, stop);
	int64_t start = now_ns(CLOCK_MONOTONIC), sent = (plan.gathered ? run_gathered : run)(&plan, outputs, flows, count);
	printf("{\"sent\": %lld, \"seconds\": %.6f, ", (long long)sent, (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9);
	print_flows(flows, (uint32_t)count);
	return 0;
}
