# Every command of the README. `make help` lists them.
PYTHON ?= python3
PIXELS ?= published
VENV   ?= $(if $(filter published,$(PIXELS)),.venv,.venv-$(PIXELS))
PINS   := tools/setup_venv.py setup.cfg $(wildcard tools/pins/*.txt)
BIN    := $(VENV)/bin

TASK   ?= cheetah_run
AGENT  ?= drqv2
HEAD   ?= modern4
NORM   ?= spectral
SEED   ?= 1
PRESET ?= published
LAUNCHER ?= local
FRAMES ?=
ARGS   ?=
RUNS   ?= runs
PORT   ?= 6006
BUNDLE ?= bundle

TABLE3_HEADS := mlp2,mlp4,modern2,modern4
EXPERIMENTS := table1 table2 table3 figure1 figure2 figure3 figure4

.PHONY: help setup train profile bench eval video board diagnose report offline doctor bundle install-offline sweep $(EXPERIMENTS) test test-slow test-faults test-gpu test-cluster check lint types figures options visit clean

help:
	@echo "make train   TASK=cheetah_run AGENT=drqv2 HEAD=modern4 NORM=spectral SEED=1 FRAMES=500000 PRESET=published|laptop ARGS='lr=3e-4'"
	@echo "make sweep   TASKS=walker_walk,cup_catch HEADS=mlp2,modern4 NORM=none SEEDS=1,2,3 LAUNCHER=local|ray|slurm    many runs"
	@echo "make table1  SEEDS=1,2 TASKS=cup_catch FRAMES=100000 LAUNCHER=...    the paper's runs, or a part: $(EXPERIMENTS)"
	@echo "make eval    RUN=runs/...            evaluate a finished run"
	@echo "make video   RUN=runs/...            film an episode of a finished run"
	@echo "make offline RUN=runs/... NORM=none,spectral DEPTHS=1,3,6    learning from a saved replay, head by head"
	@echo "make board   RUNS=runs PORT=6006     TensorBoard on localhost"
	@echo "make diagnose RUNS='runs/cartpole_balance/*'    what happened inside runs, side by side: figures in diagnosis/"
	@echo "make report  RUNS='runs' ARGS='out=report frame=100000'    the paper's tables and figures from any runs: report/index.html"
	@echo "make profile AGENT=drq BATCH=512 HEADS=mlp2,modern4 NORM=none ITERATIONS=500 RUNS=5 TRACE=1    time and memory, as Table 3"
	@echo "make bench   PARTS=updates,rendering,training    how fast this machine learns, acts, draws and trains"
	@echo "make doctor                          what this machine has, and what is wrong with it"
	@echo "make visit MINUTES=600 ARGS='--runs-per-gpu 4'    all of that and the paper's first runs, unattended; for a new GPU"
	@echo "make bundle BUNDLE=bundle SLIM=1 DEV=1 TARGET_PYTHON=3.12    a folder that installs all this on a machine without a network"
	@echo "make install-offline BUNDLE=bundle   install from it there"
	@echo "make test | check                    tests | lint, types and tests"
	@echo "make test-slow | test-faults | test-gpu | test-cluster    minutes long | kills, corruptions, full disks | on a CUDA device | Ray and submitit"
	@echo "make options                         write docs/options.md anew from cfg/ and its comments"
	@echo "make figures                         redraw the figures under results/"
	@echo "Everywhere: PIXELS=published|current, PYTHON=python3.12"

$(VENV)/.installed: $(PINS)
	@$(PYTHON) tools/setup_venv.py $(VENV) $(PIXELS)
	@touch $@

$(VENV)/.installed-dev: $(PINS)
	@$(PYTHON) tools/setup_venv.py $(VENV) $(PIXELS) --dev
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-%: $(PINS)
	@$(PYTHON) tools/setup_venv.py $(VENV) $(PIXELS) --$*
	@touch $@ $(VENV)/.installed

setup: $(VENV)/.installed

train: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.train task=$(TASK) agent=$(AGENT) head=$(HEAD) normalizer=$(NORM) seed=$(SEED) preset=$(PRESET) \
		$(if $(FRAMES),num_train_frames=$(FRAMES)) $(ARGS)

# only what the user names: profiles and sweeps have defaults of their own
named = $(if $(filter-out default file undefined,$(origin $(1))),$(2))
# a variable or its plural, SEED=1 or SEEDS=1,2
some = $(if $($(1)S),$(2)=$($(1)S),$(call named,$(1),$(2)=$($(1))))
sweep: $(VENV)/.installed $(if $(filter ray slurm,$(LAUNCHER)),$(VENV)/.installed-$(LAUNCHER))
	@$(BIN)/python -m drq_sn.cli.sweep $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) launcher=$(LAUNCHER) \
		$(call some,TASK,task) $(call some,AGENT,agent) $(call some,HEAD,head) $(call some,NORM,normalizer) $(call some,SEED,seed) \
		$(call named,PRESET,preset=$(PRESET)) $(if $(FRAMES),num_train_frames=$(FRAMES)) $(ARGS)

$(filter-out table3,$(EXPERIMENTS)):
	@$(MAKE) --no-print-directory sweep EXPERIMENT=$@

table3:
	@$(MAKE) --no-print-directory profile AGENT=drq NORM=none HEADS=$(or $(HEADS),$(TABLE3_HEADS))

profile: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.profile $(call named,AGENT,agent=$(AGENT)) $(call named,TASK,task=$(TASK)) \
		$(if $(HEADS),heads=[$(HEADS)],$(call named,HEAD,heads=[$(HEAD)])) $(call named,PRESET,preset=$(PRESET)) $(call named,SEED,seed=$(SEED)) \
		$(call named,NORM,normalizers=[$(NORM)]) $(if $(BATCH),batch_size=$(BATCH)) \
		$(if $(ITERATIONS),num_updates=$(ITERATIONS)) $(call named,RUNS,num_runs=$(RUNS)) $(if $(TRACE),trace=true) $(ARGS)

bench: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.bench $(if $(PARTS),parts=[$(PARTS)]) $(ARGS)

eval: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.evaluate run=$(or $(RUN),null) $(ARGS)

video: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.evaluate run=$(or $(RUN),null) episodes=1 video=true $(ARGS)

offline: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.fit_replay run=$(or $(RUN),null) $(call named,NORM,normalizers=[$(NORM)]) $(if $(DEPTHS),depths=[$(DEPTHS)]) $(ARGS)

board: $(VENV)/.installed
	@$(BIN)/python -m tensorboard.main --logdir $(RUNS) --host localhost --port $(PORT)

# RUNS as a list in which Hydra and the shell leave patterns alone
comma := ,
empty :=
space := $(empty) $(empty)
quoted = $(subst $(space),$(comma),$(strip $(foreach name,$(1),'$(name)')))
diagnose: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.diagnose "runs=[$(call quoted,$(RUNS))]" $(ARGS)

report: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.report "runs=[$(call quoted,$(RUNS))]" $(ARGS)

# what a machine with a GPU should be asked, in order of worth; goes on where an earlier visit ended
visit: $(VENV)/.installed-dev
	@$(BIN)/python tools/visit.py $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

doctor: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.doctor

bundle:
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tools/bundle.py '$(BUNDLE)' '$(PIXELS)' --python='$(TARGET_PYTHON)' --slim='$(SLIM)' --dev='$(DEV)' --ray='$(RAY)'

install-offline:
	@$(PYTHON) tools/install_offline.py '$(BUNDLE)' '$(VENV)' '$(PIXELS)'

# a test runs on one thread; several run at once, on cores of their own
test: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

test-slow: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m "slow and not gpu and not cluster"

test-faults: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.fault_injection

test-gpu: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m gpu

# Ray's workers and submitit's local jobs; Slurm itself is not needed
test-cluster: $(VENV)/.installed-dev $(VENV)/.installed-ray $(VENV)/.installed-slurm
	@$(BIN)/python -m pytest -m cluster

check: lint types test

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

figures: $(VENV)/.installed
	@$(BIN)/python -m drq_sn.cli.report 'runs=[results/laptop]' profiles=null out=build/report > /dev/null
	@cp build/report/curves_drqv2_settings2.png results/laptop/curves.png
	@$(BIN)/python -m drq_sn.cli.diagnose 'runs=[results/normalizers/runs]' out=results/normalizers/diagnosis

options: $(VENV)/.installed
	@$(BIN)/python tools/options.py

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info
