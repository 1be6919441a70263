/*
 * Generates frames as they come from a card: made in the kernel by an XDP program in batches (BPF_PROG_TEST_RUN with
 * live frames), so that the generating core has time to deliver them.
 *
 * usage: wire [-m LEAST] [-s SIZE] [-n COUNT] OBJECT pass|redirect INTERFACE FLOWS SOURCE GROUP:PORT
 *
 * Sizes are random from LEAST to SIZE, flows follow each other at random: flow N is sent to GROUP + N. "pass" gives
 * frames to the stack as received by INTERFACE; "redirect" sends them through INTERFACE, whose veth peer needs NAPI
 * (GRO on). Payloads begin with the number of the datagram in its flow (32 bits, network order). Ends after COUNT or
 * SIGTERM and prints {"sent":..., "seconds":..., "flows": [...]}.
 */
#include "common.h"
#include "wire.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <signal.h>

#define HEADERS 42
#define BATCH 64

static void stop(int signal_number)
{
	(void)signal_number;
}

static struct bpf_object *load(const char *path, const struct wire_plan *plan)
{
	size_t bytes = 0;
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_map *settings = object ? bpf_object__find_map_by_name(object, ".rodata") : NULL;
	void *initial = settings ? (void *)(uintptr_t)bpf_map__initial_value(settings, &bytes) : NULL;
	if (!initial || bytes < sizeof *plan)
		die(path);
	memcpy(initial, plan, sizeof *plan);
	check(bpf_object__load(object), "load the XDP program");
	return object;
}

/* Makes COUNT frames, or goes on until a signal; gives the seconds. */
static double run(struct bpf_object *object, const struct wire_plan *plan, int ingress, int count)
{
	static uint8_t frame[2048];
	struct xdp_md context = {.data_end = plan->most + HEADERS, .ingress_ifindex = (uint32_t)ingress};
	/* One call for all: each sets up and frees a pool of pages. */
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = plan->most + HEADERS,
		    .ctx_in = &context, .ctx_size_in = sizeof context, .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		    .batch_size = BATCH, .repeat = count);
	struct sigaction action = {.sa_handler = stop};
	int program = bpf_program__fd(bpf_object__find_program_by_name(object, "wire"));
	check(sigaction(SIGTERM, &action, NULL), "sigaction");
	check(sigaction(SIGINT, &action, NULL), "sigaction");
	int64_t start = now_ns(CLOCK_MONOTONIC);
	int done = bpf_prog_test_run_opts(program, &options);
	if (done < 0 && errno != EINTR)
		die("live frames");
	return (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;
}

static void report(struct bpf_object *object, uint32_t flows, double seconds)
{
	uint32_t sent[WIRE_FLOWS], key = 0;
	int64_t total = 0;
	int counts = bpf_object__find_map_fd_by_name(object, ".bss");
	check(bpf_map_lookup_elem(counts, &key, sent), "read the counts");
	for (uint32_t flow = 0; flow < flows; flow++)
		total += sent[flow];
	printf("{\"sent\": %lld, \"seconds\": %.6f, ", (long long)total, seconds);
	print_flows(sent, flows);
}

int main(int argc, char **argv)
{
	struct wire_plan plan = {.most = 1400};
	int count = 1 << 30;
	for (int option; (option = getopt(argc, argv, "m:s:n:")) != -1;) {
		switch (option) {
		case 'm': plan.least = (uint32_t)atoi(optarg); break;
		case 's': plan.most = (uint32_t)atoi(optarg); break;
		case 'n': count = atoi(optarg); break;
		default: return 2;
		}
	}
	if (plan.least == 0)
		plan.least = plan.most;
	if (argc - optind != 6 || plan.least < sizeof(uint32_t) || plan.least > plan.most || plan.most > 1472) {
		fprintf(stderr, "usage: wire [options] OBJECT pass|redirect INTERFACE FLOWS SOURCE GROUP:PORT\n");
		return 2;
	}
	char **words = argv + optind;
	bool redirect = strcmp(words[1], "redirect") == 0;
	int interface = interface_index(words[2]);
	struct sockaddr_in group = endpoint(words[5]);
	plan.flows = (uint32_t)atoi(words[3]);
	plan.source = ntohl(inet_addr(words[4]));
	plan.group = ntohl(group.sin_addr.s_addr);
	plan.port = ntohs(group.sin_port);
	plan.redirect_to = redirect ? (uint32_t)interface : 0;
	if (plan.flows < 1 || plan.flows > WIRE_FLOWS) {
		fprintf(stderr, "FLOWS: 1 to %d\n", WIRE_FLOWS);
		return 2;
	}
	struct bpf_object *object = load(words[0], &plan);
	double seconds = run(object, &plan, redirect ? interface_index("lo") : interface, count);
	report(object, plan.flows, seconds);
	return 0;
}
