/*
 * A sink that checks: attaches order_sink.bpf.c to an interface until its input ends, behind the driver ("stack") or
 * in it ("card"), before the kernel makes packets of frames.
 *
 * usage: order_sink INTERFACE OBJECT stack|card
 *
 * Prints "ready". Answers "count" with {"frames":..., "bytes":..., "late":...}, and "flows" with the same and the
 * frames of each output and flow as [[output, flow, frames], ...]; "reset" begins anew. Bytes are those of payloads.
 */
#include "common.h"
#include "order_sink.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <sys/mman.h>

#define FLOWS (SINK_OUTPUTS * SINK_FLOWS)

static int program(struct bpf_object *object, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(object, name));
}

static void attach(struct bpf_object *object, int interface)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = 1, .priority = 1);
	options.prog_fd = program(object, "order_sink");
	check(bpf_tc_hook_create(&hook), "create the ingress hook");
	check(bpf_tc_attach(&hook, &options), "attach the sink");
}

static void print_total(const struct sink_flow *flows)
{
	uint64_t frames = 0, bytes = 0, late = 0;
	for (int i = 0; i < FLOWS; i++) {
		frames += flows[i].frames;
		bytes += flows[i].bytes;
		late += flows[i].late;
	}
	printf("{\"frames\": %llu, \"bytes\": %llu, \"late\": %llu", (unsigned long long)frames,
	       (unsigned long long)bytes, (unsigned long long)late);
}

static void print_each(const struct sink_flow *flows)
{
	const char *separator = "";
	printf(", \"flows\": [");
	for (int i = 0; i < FLOWS; i++) {
		if (flows[i].frames == 0)
			continue;
		printf("%s[%d, %d, %llu]", separator, i / SINK_FLOWS, i % SINK_FLOWS, (unsigned long long)flows[i].frames);
		separator = ", ";
	}
	printf("]");
}

int main(int argc, char **argv)
{
	char line[16];
	if (argc != 4) {
		fprintf(stderr, "usage: order_sink INTERFACE OBJECT stack|card\n");
		return 2;
	}
	struct bpf_object *object = bpf_object__open_file(argv[2], NULL);
	if (!object)
		die(argv[2]);
	check(bpf_object__load(object), "load the sink");
	int counts = bpf_object__find_map_fd_by_name(object, ".bss");
	check(counts, "find the counts");
	size_t bytes = FLOWS * sizeof(struct sink_flow);
	struct sink_flow *flows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, counts, 0);
	if (flows == MAP_FAILED)
		die("map the counts");
	int interface = interface_index(argv[1]);
	if (strcmp(argv[3], "card") == 0)
		check(bpf_xdp_attach(interface, program(object, "card_sink"), XDP_FLAGS_DRV_MODE, NULL), "attach the sink");
	else
		attach(object, interface);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (strcmp(line, "reset\n") == 0)
			memset(flows, 0, bytes);
		print_total(flows);
		if (strcmp(line, "flows\n") == 0)
			print_each(flows);
		puts("}");
		fflush(stdout);
	}
	return 0;
}
