/*
 * What the same work costs in C: a yardstick to lay beside kvmlib's times, not a dump reader.
 *
 *	yardstick DUMP DUMP_OFF VA COPY
 *
 * It does what libkvm and savecore(8) do, system call for system call: eight bytes read at each level of the page
 * tables and the data after them, once per page; a file copied by reads and writes of 1 MiB. Large pages are copied by
 * memcpy. DUMP is one that make_dump.py made, on a machine of its byte order. Prints "NAME SECONDS" for each
 * measurement, the median of five.
 */
#include <sys/types.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUNS		5
#define LENGTH		((size_t)256 << 20)
#define LOOKUPS		200000
#define MIB		((size_t)1 << 20)
#define PAGE		((uint64_t)4096)
#define FRAME		UINT64_C(0x000ffffffffff000)

struct range {
	uint64_t	pa;
	uint64_t	size;
};

/* struct kcore_seg and OpenBSD/amd64's cpu_kcore_hdr_t, as they stand in the file. */
struct header {
	uint32_t	midmag;
	uint32_t	size;
	uint64_t	root;
	uint64_t	count;
	struct range	range[30];
	uint64_t	pad;
};

static struct header	hdr;
static int		core;
static off_t		first;
static uint64_t		base;
static const char	*core_path, *copy_path;
static unsigned char	*memory;

static off_t
offset_of(uint64_t pa)
{
	off_t	off = first;

	for (uint64_t i = 0; i < hdr.count; i++) {
		const struct range *r = &hdr.range[i];

		if (pa >= r->pa && pa - r->pa < r->size)
			return (off + (off_t)(pa - r->pa));
		off += (off_t)r->size;
	}
	errx(1, "pa %#llx is not in the dump", (unsigned long long)pa);
}

static uint64_t
translate(uint64_t va)
{
	uint64_t	entry, table = hdr.root;

	for (int level = 3; level >= 0; level--) {
		uint64_t slot = va >> (12 + 9 * level) & 511;

		if (pread(core, &entry, sizeof entry, offset_of(table + 8 * slot)) != sizeof entry)
			err(1, "pread");
		if ((entry & 1) == 0)
			errx(1, "va %#llx is not mapped", (unsigned long long)va);
		table = entry & FRAME;
	}
	return (table | (va & (PAGE - 1)));
}

static void
read_virtual(uint64_t va, unsigned char *to, size_t n)
{
	while (n > 0) {
		size_t part = (size_t)(PAGE - (va & (PAGE - 1)));

		if (part > n)
			part = n;
		if (pread(core, to, part, offset_of(translate(va))) != (ssize_t)part)
			err(1, "pread");
		va += part;
		to += part;
		n -= part;
	}
}

static void
read_by(size_t step)
{
	for (size_t at = 0; at < LENGTH; at += step)
		read_virtual(base + at, memory + at, step);
}

static void read_by_4k(void) { read_by(4 << 10); }
static void read_by_64k(void) { read_by(64 << 10); }
static void read_at_once(void) { read_by(LENGTH); }

static void
look_up(void)
{
	static volatile uint64_t	sink;
	uint64_t			state = 1;

	for (int i = 0; i < LOOKUPS; i++) {
		/* Knuth's 64-bit multiplier; its high bits are the random ones. */
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		sink += translate(base + (state >> 20) % LENGTH);
	}
}

static void
list_pages(void)
{
	static volatile uint64_t	sink;

	for (size_t at = 0; at < LENGTH; at += (size_t)PAGE)
		sink += translate(base + at);
}

/* Memory in one run, such as large pages have: the last segment, copied from the mapped file. */
static void
copy_memory(void)
{
	struct stat	st;
	unsigned char	*file;

	if (fstat(core, &st) == -1 ||
	    (file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, core, 0)) == MAP_FAILED)
		err(1, "%s", core_path);
	for (size_t at = 0; at < LENGTH; at += 2 * MIB)
		memcpy(memory + at, file + offset_of(hdr.range[hdr.count - 1].pa + at), 2 * MIB);
	munmap(file, (size_t)st.st_size);
}

static void
copy(void)
{
	int	from, to;
	ssize_t	n;

	if ((from = open(core_path, O_RDONLY)) == -1)
		err(1, "%s", core_path);
	if ((to = open(copy_path, O_WRONLY | O_CREAT | O_TRUNC, 0600)) == -1)
		err(1, "%s", copy_path);
	while ((n = read(from, memory, MIB)) > 0)
		if (write(to, memory, (size_t)n) != n)
			err(1, "%s", copy_path);
	if (n == -1)
		err(1, "%s", core_path);
	close(from);
	close(to);
}

static double
seconds(void)
{
	struct timespec	t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
}

static int
by_size(const void *a, const void *b)
{
	double	x = *(const double *)a, y = *(const double *)b;

	return ((x > y) - (x < y));
}

static void
measure(const char *name, void (*work)(void))
{
	double	took[RUNS];

	for (int i = 0; i < RUNS; i++) {
		double begin = seconds();

		work();
		took[i] = seconds() - begin;
		(void)unlink(copy_path);
	}
	qsort(took, RUNS, sizeof took[0], by_size);
	printf("%s %.6f\n", name, took[RUNS / 2]);
	fflush(stdout);
}

int
main(int argc, char *argv[])
{
	off_t	off;

	if (argc != 5)
		errx(2, "usage: yardstick DUMP DUMP_OFF VA COPY");
	core_path = argv[1];
	copy_path = argv[4];
	off = (off_t)strtoull(argv[2], NULL, 0);
	base = strtoull(argv[3], NULL, 0);
	if ((core = open(core_path, O_RDONLY)) == -1 ||
	    pread(core, &hdr, sizeof hdr, off) != (ssize_t)sizeof hdr)
		err(1, "%s", core_path);
	first = off + (off_t)sizeof hdr;
	if ((memory = malloc(LENGTH)) == NULL)
		err(1, NULL);
	/* Its pages are there before the clock runs. */
	for (size_t at = 0; at < LENGTH; at += (size_t)PAGE)
		memory[at] = 1;

	measure("read_4k", read_by_4k);
	measure("read_64k", read_by_64k);
	measure("read_once", read_at_once);
	measure("read_large", copy_memory);
	measure("kvatop", look_up);
	measure("mappings", list_pages);
	measure("save", copy);
	return (0);
}
