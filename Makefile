# Sluice. `make help` lists the targets.
SHELL := /bin/bash
B ?= build
CC ?= gcc
ROOMS := base infer http config engine batcher api router net backends gateway worker keeper
PKGS := libevent libevent_pthreads libevent_openssl libnghttp2 openssl jansson libconfuse libxxhash libzstd zlib
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wwrite-strings -Wvla -Wundef -Wold-style-definition -Wno-unused-parameter -Wimplicit-fallthrough
OPT ?= -O2 -g
SAN ?=
CFLAGS_ALL = -std=gnu17 $(OPT) $(WARN) -fno-strict-aliasing -fno-common -pthread -D_GNU_SOURCE -I. -I$(B)/gen \
             $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(SAN) $(CFLAGS)
LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -ldnnl -lm -pthread

# What each room may use: itself and the floors below (the linker sees no more than the rule allows).
USES_base := base
USES_infer := infer base
USES_http := http base
USES_config := config base
USES_engine := engine base
USES_batcher := batcher infer base
USES_api := api http infer base
USES_router := router batcher infer base
USES_net := net http base
USES_backends := backends net http infer base
USES_gateway := gateway backends net router batcher api http infer config base
USES_worker := worker backends net batcher api http infer engine config base
USES_keeper := keeper gateway backends net router batcher api http infer config base

srcs = $(sort $(wildcard $(1)/*.c $(1)/*/*.c))
MAINS := keeper/main.c worker/main.c
objs = $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(MAINS),$(call srcs,$(1))))
lib = $(B)/lib$(1).a
libs = $(foreach r,$(1),$(call lib,$(r)))

.PHONY: all
all: $(B)/sluice $(B)/sluice-worker

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

define ROOM
$(call lib,$(1)): $(call objs,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@ && $(AR) rcs $$@ $$^
.PHONY: unit-$(1)
unit-$(1): $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/$(1)_*.c))
	@for t in $$^; do $$$$t || exit 1; done
$(B)/unit/$(1)_%: tests/unit/$(1)_%.c $(call libs,$(USES_$(1)))
	@mkdir -p $$(@D)
	@$(CC) $(CFLAGS_ALL) -MMD -MP -o $$@ $$< -Wl,--start-group $(call libs,$(USES_$(1))) -Wl,--end-group $(LIBS) -lcmocka
endef
$(foreach r,$(ROOMS),$(eval $(call ROOM,$(r))))

$(B)/sluice: keeper/main.c $(call libs,$(USES_keeper))
	@$(CC) $(CFLAGS_ALL) -MMD -MP -MF $(B)/sluice.d -o $@ $< -Wl,--start-group $(call libs,$(USES_keeper)) -Wl,--end-group $(LIBS)
$(B)/sluice-worker: worker/main.c $(call libs,$(USES_worker))
	@$(CC) $(CFLAGS_ALL) -MMD -MP -MF $(B)/sluice-worker.d -o $@ $< -Wl,--start-group $(call libs,$(USES_worker)) -Wl,--end-group $(LIBS)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
