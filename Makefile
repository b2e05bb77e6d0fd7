# Every command of the README; `make help` lists them. tools/make_target.py has the variables that each target uses.
PYTHON ?= python3
PIXELS ?= published
VENV   ?= $(if $(filter published,$(PIXELS)),.venv,.venv-$(PIXELS))
BIN    := $(VENV)/bin
PINS   := tools/setup_venv.py setup.cfg $(wildcard tools/pins/*.txt)
HOST    = $(or $(wildcard $(BIN)/python),$(PYTHON))
export PIXELS VENV

# variables given to make: put them into the environment as typed, and refuse those that no goal uses
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval override export $(name) := $$(value $(name))))
PROBLEM := $(shell $(HOST) tools/make_target.py check '$(MAKECMDGOALS)' $(patsubst %,'%',$(sort $(GIVEN))))
$(if $(PROBLEM),$(error $(PROBLEM)))

COMMANDS    := train profile bench eval evaluate video offline fit-replay board report doctor
EXPERIMENTS := table1 table2 table3 figure1 figure2 figure3 figure4 gogianu_lr gogianu_depth gogianu_schedulers gogianu_all_layers
RUN_TARGET   = @$(HOST) tools/make_target.py run $@

.PHONY: help setup $(COMMANDS) sweep $(EXPERIMENTS) visit bundle install-offline test test-fast test-slow test-faults \
	test-endurance test-gpu test-cluster check lint types options figures clean

help:
	@$(HOST) tools/make_target.py help

$(VENV)/.installed: $(PINS)
	@$(PYTHON) tools/setup_venv.py $(VENV) $(PIXELS)
	@touch $@

$(VENV)/.installed-%: $(PINS)
	@$(PYTHON) tools/setup_venv.py $(VENV) $(PIXELS) --$*
	@touch $@ $(VENV)/.installed

setup: $(VENV)/.installed

$(COMMANDS): $(VENV)/.installed
	$(RUN_TARGET) $(BIN)/python

sweep $(EXPERIMENTS): $(VENV)/.installed $(if $(filter ray slurm,$(LAUNCHER)),$(VENV)/.installed-$(LAUNCHER))
	$(RUN_TARGET) $(BIN)/python

visit: $(VENV)/.installed-dev
	$(RUN_TARGET) $(BIN)/python

bundle:
	$(RUN_TARGET) $(HOST)

install-offline:
	$(RUN_TARGET) $(PYTHON)

# one thread per test; several tests at once, each on a core
test: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

test-fast: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=2 \
		-m "not slow and not gpu and not cluster and not process"

test-slow: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m "slow and not gpu and not cluster"

test-faults: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.fault_injection

test-endurance: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.endurance

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
	@$(BIN)/python -m drq_sn.cli.report 'runs=[results/normalizers/runs]' profiles=null out=build/normalizers > /dev/null
	@cp build/normalizers/figure3_cartpole_balance.svg results/normalizers/diagnosis/figure3.svg
	@cp build/normalizers/diagnostics_cartpole_balance.svg results/normalizers/diagnosis/diagnostics.svg
	@cp build/normalizers/diagnostics.csv results/normalizers/diagnosis/diagnostics.csv
	@$(BIN)/python -m drq_sn.cli.report 'runs=[results/laptop_table1]' profiles=null out=build/laptop_table1 > /dev/null
	@cp build/laptop_table1/figure3_cartpole_balance.svg results/laptop_table1/figure3.svg
	@cp build/laptop_table1/figure3_cartpole_balance_sparse.svg results/laptop_table1/figure3_sparse.svg
	@cp build/laptop_table1/curves.svg results/laptop_table1/curves.svg
	@$(BIN)/python -m drq_sn.cli.report 'runs=[results/laptop_table2]' profiles=null out=build/laptop_table2 > /dev/null
	@cp build/laptop_table2/figure3_cartpole_balance.svg results/laptop_table2/figure3.svg
	@$(BIN)/python -m drq_sn.cli.report 'runs=[results/published]' profiles=null out=build/published > /dev/null
	@cp build/published/curves.svg results/published/curves.svg
	@$(BIN)/python tools/claims.py

options: $(VENV)/.installed
	@$(BIN)/python tools/options.py

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info
