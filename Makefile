# Sluice. `make help` lists the targets; `make run` and `make test` do all the set-up themselves.
#
# B=DIR      where objects and programs go (build)
# CC= OPT=   compiler and optimisation;  SAN=: sanitizer flags;  CFLAGS=, LDFLAGS=: anything more
# A change of any of them rebuilds what it touches: the flags are kept in $(B)/flags.
SHELL := /bin/bash
B ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
OPT ?= -O2 -g
SAN ?=
PREFIX ?= /usr/local
SEEDS ?= 1000
N ?= 100
FUZZ_SECONDS ?= 60

# All cores, unless the caller said how many.
ifeq ($(filter -j%,$(MAKEFLAGS))$(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
MAKEFLAGS += --no-print-directory

ROOMS := base infer http config engine archive batcher api router net backends gateway worker keeper ctl
THINKING := base infer http config engine batcher api router
PKGS := libevent libevent_pthreads libevent_openssl libnghttp2 openssl jansson libconfuse libxxhash libzstd zlib hiredis
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wwrite-strings -Wvla -Wundef -Wold-style-definition -Wno-unused-parameter -Wimplicit-fallthrough
# What distributions harden with. _FORTIFY_SOURCE wants optimisation and quarrels with sanitizers.
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection
ifneq ($(filter -O1 -O2 -O3 -Os,$(OPT)),)
ifeq ($(strip $(SAN)),)
HARDEN += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
endif
# Asked for once, and only by a recipe that compiles: before the set-up there may be no pkg-config.
# TLS to a Redis wants hiredis 1.0 or later, built with it: a library of its own.
REDIS_TLS = $(shell pkg-config --exists hiredis_ssl 2>/dev/null && echo hiredis_ssl)
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) $(REDIS_TLS) 2>/dev/null) \
             $(if $(REDIS_TLS),-DSLUICE_REDIS_TLS=1))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS) $(REDIS_TLS) 2>/dev/null))$(PKG_LIBS)
CFLAGS_ALL = -std=gnu17 $(OPT) $(WARN) $(HARDEN) -fno-strict-aliasing -fno-common -pthread -D_GNU_SOURCE \
             -I. -I$(B)/gen $(PKG_CFLAGS) $(SAN) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)
LIBS = $(PKG_LIBS) -ldnnl -lgomp -lm -pthread

# What each room may use: itself and the floors below (the linker sees no more than the rule allows).
USES_base := base
USES_infer := infer base
USES_http := http base
USES_config := config base
USES_engine := engine base
USES_archive := archive base
USES_batcher := batcher infer base
USES_api := api http infer base
USES_router := router batcher infer base
USES_net := net http base
USES_backends := backends net http infer base
USES_gateway := gateway backends net router batcher api http infer config archive base
USES_worker := worker backends net batcher api http infer engine config base
USES_keeper := keeper gateway backends net router batcher api http infer config archive base
USES_ctl := ctl gateway backends net router batcher api http infer config archive base

comma := ,
srcs = $(sort $(wildcard $(1)/*.c $(1)/*/*.c))
MAINS := keeper/main.c worker/main.c ctl/main.c ctl/bench.c
# Debug doors (gateway/doors.h): these files, compiled again, stand before the archives in sluice-doors.
DOORED := backends/worker.c gateway/calls.c gateway/gateway.c gateway/part.c gateway/removal.c \
          gateway/workers.c keeper/tickets.c net/sock.c
DOOR_OBJS := $(patsubst %.c,$(B)/obj/doors/%.o,gateway/doors.c $(DOORED))
objs = $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(MAINS) gateway/doors.c,$(call srcs,$(1))))
lib = $(B)/lib$(1).a
libs = $(foreach r,$(1),$(call lib,$(r)))
# link(program's own objects or source, rooms): archives are searched round and round.
link = $(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(1) -Wl,--start-group $(call libs,$(2)) -Wl,--end-group

UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(foreach r,$(ROOMS),$(wildcard tests/unit/$(r)_*.c)))
SIM_OBJS := $(patsubst %.c,$(B)/obj/%.o,$(sort $(wildcard tests/sim/*.c)))
BENCHES := $(patsubst bench/%.c,$(B)/bench/%,$(sort $(wildcard bench/*.c)))
BATCHSIM_OBJS := $(patsubst %.c,$(B)/obj/%.o,$(sort $(wildcard bench/batchsim/*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(sort $(wildcard tests/fuzz/*.c)))

.PHONY: all
all: $(B)/sluice $(B)/sluice-worker $(B)/sluicectl $(B)/sluice-bench ## build build/sluice, sluice-worker, sluicectl, sluice-bench

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  B=DIR OPT=-O2 SAN=-fsanitize=... CC=gcc as ever; one room's tests: make unit-ROOM"

# ---- compiling -----------------------------------------------------------------------------------

.PHONY: FORCE
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LIBS)' >$@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv -f $@.$$$$ $@; fi

# Kernels are loops over arrays: gcc vectorises them from -O3 on.
$(B)/obj/engine/cpu/%.o: CFLAGS_ALL += $(if $(filter -O2,$(OPT)),-O3)
$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/obj/doors/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC $< (with doors)"
	@$(CC) $(CFLAGS_ALL) -DSLUICE_DOORS -MMD -MP -c -o $@ $<

# The dashboard (gateway/dashboard.h), with the charts of Debian's libjs-dygraphs.
DYGRAPHS ?= /usr/share/javascript/dygraphs
DYGRAPHS_LICENCE ?= /usr/share/doc/libjs-dygraphs/copyright
$(B)/gen/dashboard_page.h: tools/page $(wildcard gateway/dashboard/*) $(DYGRAPHS)/dygraph.min.js $(DYGRAPHS_LICENCE)
	@mkdir -p $(@D)
	@echo "  PAGE $@"
	@tools/page gateway/dashboard $(DYGRAPHS) $(DYGRAPHS_LICENCE) >$@.new && mv $@.new $@
$(DYGRAPHS)/dygraph.min.js $(DYGRAPHS_LICENCE):
	@echo "$@: not there: the dashboard wants the package libjs-dygraphs (tools/setup.sh run)" >&2; exit 1
$(B)/obj/gateway/dashboard.o: $(B)/gen/dashboard_page.h

define ROOM
$(call lib,$(1)): $(call objs,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@ && $(AR) rcs $$@ $$^
.PHONY: unit-$(1)
unit-$(1): $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/$(1)_*.c))
	@for t in $$^; do $$$$t || exit 1; done
$(B)/unit/$(1)_%: tests/unit/$(1)_%.c $(B)/flags $(call libs,$(USES_$(1)))
	@mkdir -p $$(@D)
	@echo "  TEST $$<"
	@$$(call link,-MMD -MP -MF $$@.d $$<,$(USES_$(1))) $$(LIBS) -lcmocka
endef
$(foreach r,$(ROOMS),$(eval $(call ROOM,$(r))))

# Those that test kernels which the machine would not choose.
$(patsubst %,$(B)/unit/engine_%,bytes curves product): LIBS += -Wl$(comma)--wrap=cpu_vectors

$(B)/sluice: keeper/main.c $(B)/flags $(call libs,$(USES_keeper))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,$(USES_keeper)) $(LIBS)
$(B)/sluice-doors: keeper/main.c $(DOOR_OBJS) $(B)/flags $(call libs,$(USES_keeper))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $< $(DOOR_OBJS),$(USES_keeper)) $(LIBS)
# What doers owe for effects (tests/conformance/contracts.h) is watched around these functions of the router.
WATCHED := flow_submit flow_on_gone flow_on_back flow_on_echo flow_on_wake flow_call_shadows flow_deinit desk_on_ticket \
           desk_on_cancel desk_on_replica_up desk_on_replica_down desk_on_process_end desk_on_answer \
           desk_on_end desk_on_stored desk_on_wake desk_run desk_free
WATCH := $(addprefix -Wl$(comma)--wrap=,$(WATCHED))
WATCH_OBJS := $(patsubst %,$(B)/obj/tests/conformance/%.o,boundary contracts)
$(B)/sluice-contracts: keeper/main.c $(DOOR_OBJS) $(WATCH_OBJS) $(B)/obj/tests/conformance/gateway.o $(B)/flags $(call libs,$(USES_keeper))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $(filter %.c %.o,$^) $(WATCH),$(USES_keeper)) $(LIBS)
SIM_WORLD := $(filter-out %/main.o,$(SIM_OBJS)) $(B)/obj/backends/probe.o
$(B)/unit/router_contracts: tests/unit/router_contracts.c $(SIM_WORLD) $(WATCH_OBJS) $(B)/flags \
                            $(call libs,$(USES_router))
	@mkdir -p $(@D)
	@echo "  TEST $<"
	@$(call link,-MMD -MP -MF $@.d $< $(SIM_WORLD) $(WATCH_OBJS) $(WATCH) \
	    -Wl$(comma)--wrap=plan_models -Wl$(comma)--wrap=calls_cancel,$(USES_router)) -lm $(LIBS) -lcmocka
$(B)/sluice-worker: worker/main.c $(B)/flags $(call libs,$(USES_worker))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,$(USES_worker)) $(LIBS)
$(B)/sluicectl: ctl/main.c $(B)/flags $(call libs,$(USES_ctl))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,$(USES_ctl)) -lcurl -lncurses $(LIBS)
$(B)/sluice-bench: ctl/bench.c $(B)/flags $(call libs,$(USES_ctl))
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,$(USES_ctl)) -lcurl -lm $(LIBS)
$(B)/demo: tools/demo.c $(B)/flags
	@echo "  LINK $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -MMD -MP -MF $@.d -o $@ $< -lm
$(B)/sim: $(SIM_OBJS) $(B)/obj/backends/probe.o $(B)/flags $(call libs,$(USES_router))
	@echo "  LINK $@"
	@$(call link,$(SIM_OBJS) $(B)/obj/backends/probe.o,$(USES_router)) -lm -pthread $(LIBS)
$(B)/bench/%: bench/%.c $(B)/flags $(call libs,net router batcher http infer config base)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,net router batcher http infer config base) $(LIBS)
$(B)/bench/predictions: bench/predictions.c $(B)/flags $(call libs,$(USES_gateway))
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,$(USES_gateway)) $(LIBS)
$(B)/bench/engine: bench/engine.c $(B)/flags $(call libs,engine base)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $<,engine base) $(LIBS)
$(B)/bench/batchsim: bench/batchsim.c $(BATCHSIM_OBJS) $(B)/flags $(call libs,batcher infer base)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(call link,-MMD -MP -MF $@.d $< $(BATCHSIM_OBJS),batcher infer base) $(LIBS)
$(B)/fuzz/redis: tests/fuzz/redis.c $(B)/obj/backends/redis_words.o $(B)/flags $(call libs,$(THINKING))
	@mkdir -p $(@D)
	@echo "  FUZZ $<"
	@$(call link,-fsanitize=fuzzer -MMD -MP -MF $@.d $< $(B)/obj/backends/redis_words.o,$(THINKING)) $(LIBS)
$(B)/fuzz/%: tests/fuzz/%.c $(B)/flags $(call libs,$(THINKING))
	@mkdir -p $(@D)
	@echo "  FUZZ $<"
	@$(call link,-fsanitize=fuzzer -MMD -MP -MF $@.d $<,$(THINKING)) $(LIBS)

# ---- running and testing -------------------------------------------------------------------------

.PHONY: run
run: ## start the gateway with its demo models, show one answer, stay until Ctrl-C
	@tools/setup.sh run
	@$(MAKE) all $(B)/demo
	@exec $(B)/demo $(B)/sluice -c config/gateway.conf

.PHONY: programs
programs: all $(B)/sluice-doors $(B)/sluice-contracts $(UNITS) $(BENCHES) $(if $(SIM_OBJS),$(B)/sim)

.PHONY: unit
unit: $(UNITS) ## unit tests of every room (one room: make unit-ROOM)
	@tools/run_tests unit --build $(B)

.PHONY: test
test: ## everything a machine without a GPU can: unit tests, 1,000 simulator seeds, integration, faults
	@tools/setup.sh test
	@$(MAKE) programs
	@tools/run_tests unit sim integration --build $(B) --seeds $(SEEDS)

.PHONY: browser-test
browser-test: ## the dashboard in a real headless Chromium, which it installs (SLUICE_PICTURES=DIR keeps screenshots)
	@tools/setup.sh test
	@tools/setup.sh browser
	@$(MAKE) all
	@SLUICE_BUILD=$(abspath $(B)) SLUICE_WORKER=$(abspath $(B)/sluice-worker) .venv/bin/python -m pytest -q -c tests/pytest.ini tests/browser

.PHONY: chaos
CHAOS_SECONDS ?= 300
chaos: ## every scenario of tests/faults under random faults, for five minutes: a table (CHAOS_SECONDS=, SEED=)
	@tools/setup.sh test
	@$(MAKE) all
	@SLUICE_BUILD=$(abspath $(B)) .venv/bin/python tests/faults/chaos.py --seconds $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: tour
tour: ## watch it for a minute and a half: workers are killed and come back, a bad version is rolled back; answers go on
	@tools/setup.sh test
	@$(MAKE) all
	@SLUICE_BUILD=$(abspath $(B)) .venv/bin/python tests/faults/tour.py

.PHONY: sim
sim: $(B)/sim ## the simulator: SEEDS=N, or SEED=S TRACE=INFER for the story of one
	@$(B)/sim $(if $(SEED),--seed $(SEED) $(if $(TRACE),--trace $(TRACE)),--seeds $(SEEDS))

ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DSLUICE_ASAN -DSLUICE_DEBUG
TSAN_FLAGS := -fsanitize=thread -fno-omit-frame-pointer -DSLUICE_DEBUG
ASAN_SEEDS ?= 200

.PHONY: asan
asan: ## unit tests, simulator and fault tests under AddressSanitizer and UBSan
	@tools/setup.sh test
	@$(MAKE) B=$(B)/asan OPT="-O1 -g" SAN="$(ASAN_FLAGS)" programs
	@tools/run_tests unit sim integration --build $(B)/asan --seeds $(ASAN_SEEDS) --marks "not reference and not slow"

.PHONY: tsan
tsan: ## the mailbox stress and a load of two loops under ThreadSanitizer
	@tools/setup.sh test
	@$(MAKE) all
	@$(MAKE) B=$(B)/tsan OPT="-O1 -g" SAN="$(TSAN_FLAGS)" $(B)/tsan/sluice $(B)/tsan/sluicectl \
	    $(B)/tsan/bench/core tsan-units
	@tools/run_tests unit integration --build $(B)/tsan --worker $(B)/sluice-worker --marks load

.PHONY: tsan-units
tsan-units: $(filter $(B)/unit/base_mpsc $(B)/unit/router_table $(B)/unit/router_tenants $(B)/unit/gateway_chunks $(B)/unit/base_block% $(B)/unit/base_memory $(B)/unit/net_%,$(UNITS))

.PHONY: fuzz
fuzz: ## every libFuzzer target of tests/fuzz, FUZZ_SECONDS each, in bounded memory
	@tools/setup.sh fuzz
	@$(MAKE) B=$(B)/fuzzing CC=clang OPT="-O1 -g" SAN="-fsanitize=fuzzer-no-link,address,undefined \
	    -fno-sanitize-recover=all -fno-omit-frame-pointer -DSLUICE_ASAN -DSLUICE_DEBUG" fuzzers
	@tools/fuzz.sh $(B)/fuzzing/fuzz $(FUZZ_SECONDS)

.PHONY: fuzzers
fuzzers: $(FUZZERS)

.PHONY: onnx-suite
ONNX_PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
onnx-suite: $(B)/unit/engine_ops ## ONNX's operator tests by op: passed, refused, wrong (Debian's, and PyPI's onnx if there)
	@$(B)/unit/engine_ops --suite /usr/share/libonnx-testdata/data
	@if $(ONNX_PYTHON) -c 'import onnx.backend.test.case.node' 2>/dev/null; then \
	    $(ONNX_PYTHON) -W ignore tools/onnx_cases.py $(B)/onnx && $(B)/unit/engine_ops --suite $(B)/onnx; \
	else echo "PyPI's onnx: $(ONNX_PYTHON) does not have it (ONNX_PYTHON=...): its tests were not run"; fi

.PHONY: onnx-exporters
EXPORTERS_PYTHON ?= $(ONNX_PYTHON)
onnx-exporters: $(B)/sluice-worker ## models of PyPI's exporters beside onnxruntime (those that EXPORTERS_PYTHON has)
	@$(EXPORTERS_PYTHON) -W ignore tests/exporters/run.py --worker $(B)/sluice-worker $(B)/exporters

.PHONY: bench
bench: ## figures: beside nghttpx, the core alone, memory under load (bench/RESULTS.md)
	@tools/setup.sh bench
	@$(MAKE) all $(BENCHES)
	@bench/run.py --build $(B)

.PHONY: mutants
mutants: ## break router/ and batcher/ N times at random: how many do the tests notice?
	@tools/setup.sh test
	@$(MAKE) $(B)/sim
	@python3 tools/mutants.py $(N) --build $(B) $(if $(SEED),--seed $(SEED))

.PHONY: lint
lint: ## the house rules: floors, banned calls, formatting, cppcheck, clang-tidy
	@tools/setup.sh lint
	@$(MAKE) $(foreach r,$(THINKING),$(call lib,$(r))) $(B)/gen/dashboard_page.h
	@tools/lint --build $(B)
	@tests/lint_test.sh $(B)

.PHONY: fmt
fmt: ## clang-format every source file
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

.PHONY: gpu-test gpu-bench
gpu-test gpu-bench:
	@echo "$@: there is no GPU device room (cuda/) yet: nothing was run"
	@echo "0 passed, 0 failed, 1 skipped"

.PHONY: install
install: all ## into DESTDIR and PREFIX (/usr/local)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(B)/sluice $(B)/sluice-worker $(B)/sluicectl $(B)/sluice-bench
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	install -D -m 644 ctl/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sluicectl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/sluice README.md LICENSE docs/*.md config/gateway.conf

.PHONY: clean
clean: ## remove everything that was built (the Python environment stays)
	rm -rf $(B)

-include $(shell find $(B)/obj $(B)/unit $(B)/bench $(B)/fuzz -name '*.d' 2>/dev/null) $(wildcard $(B)/*.d)
