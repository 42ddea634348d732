# make demo   a simulated drive along crop rows through a real ROS 2 graph; results in out/demo/
# make test   the whole test suite, linters and types included
# make experiment   labels from depth against the truth, on simulated fields; results in runs/experiment/
# make clean  removes what was built and made, .venv included
#
# Variables: PYTHON=python3.12  SOURCE=/path/to/video-or-folder-or-bag  SECONDS=20
#            BUNDLE=model.cropseg  OUT=out/demo  TORCH=torch==2.13.0

SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= torch==2.13.0
SOURCE ?= simulator:species=maize,condition=sun,camera=oblique,seed=1,width=640,height=480,rate_hz=10
SECONDS ?= 20
OUT ?= out/demo
# A .cropseg file; empty for the one that is shipped.
BUNDLE ?=

# The ROS 2 wheels mark an environment as set up; a mark from another environment would mix libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
# A sourced ROS 2 gets an environment of its own, which sees that ROS's Python packages and keeps
# the NumPy major version that they were built with.
ROS_SOURCED := $(if $(ROS_DISTRO),$(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo yes))
VENV := .venv$(if $(ROS_SOURCED),-$(ROS_DISTRO))
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
ROS := ros2_ws/install/.made-for$(VENV)
# Modules are compiled when they are first imported: most never are, and compiling all takes a while.
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check
NUMPY_1 := $(if $(ROS_SOURCED),$(shell $(PYTHON) -c 'import numpy; print(int(numpy.__version__[0] == "1"))'))
SEE_SYSTEM := $(if $(ROS_SOURCED),--system-site-packages)
CONSTRAIN := $(if $(filter 1,$(NUMPY_1)),'numpy<2')
MESSAGES := $(wildcard ros2_ws/src/cropseg_msgs/* ros2_ws/src/cropseg_msgs/msg/*)

.PHONY: help demo test experiment clean ros lint types pytest

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(STAMPS)/package ros
	@. ros2_ws/env.sh && $(BIN)/python -m cropseg_ros.demo \
	    --source "$(SOURCE)" --seconds $(SECONDS) --out "$(OUT)" --bundle "$(BUNDLE)"

test: $(STAMPS)/test ros
	@$(MAKE) --no-print-directory -j2 lint types pytest

experiment: $(STAMPS)/test
	$(BIN)/python -m training experiment --out runs/experiment

lint: $(STAMPS)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMPS)/test
	$(BIN)/mypy

pytest: $(STAMPS)/test ros
	. ros2_ws/env.sh && $(BIN)/python -m pytest

ros: $(ROS)
	@grep '^none' $< | sed 's/^none/ROS 2 is not used/' || true

clean:
	rm -rf .venv* .cache build out ros2_ws/{build,install,log} *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian and Ubuntu ship Python without ensurepip (python3-venv, for which one needs sudo): pip then
# comes from PyPI.
define FETCH_PIP
import json, sys, urllib.parse, urllib.request
page = "https://pypi.org/pypi/pip/json"
files = json.load(urllib.request.urlopen(page))["urls"]
url = next(file["url"] for file in files if file["packagetype"] == "bdist_wheel")
urllib.request.urlretrieve(urllib.parse.urljoin(page, url), sys.argv[1])
endef
export FETCH_PIP

$(STAMPS)/venv:
	@echo "making $(VENV)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	    $(PYTHON) -m venv $(SEE_SYSTEM) $(VENV); \
	else \
	    echo "fetching pip, which this Python lacks" && \
	    $(PYTHON) -m venv --without-pip $(SEE_SYSTEM) $(VENV) && \
	    wheel=$(VENV)/pip-0-py3-none-any.whl && \
	    $(BIN)/python -c "$$FETCH_PIP" $$wheel && \
	    $(BIN)/python $$wheel/pip install -qq --disable-pip-version-check pip; \
	fi || { echo "error: no environment; install python3-venv (sudo apt install python3-venv) or go online, then make again"; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/package: pyproject.toml setup.py $(wildcard cropseg_edge/fade/*.cpp cropseg_edge/fade/*.h cropseg_edge/engines/operators/*.cpp cropseg_edge/engines/operators/*.h) | $(STAMPS)/venv
	@echo "installing cropseg-edge"
	@$(PIP) -e '.[ros]' $(CONSTRAIN)
	@touch $@

$(STAMPS)/test: pyproject.toml | $(STAMPS)/package
	@echo "installing what training and tests need"
	@$(PIP) '$(TORCH)' -e '.[ros,train,dev]' $(CONSTRAIN)
	@touch $@

$(ROS): ros2_ws/build.py ros2_ws/requirements.txt ros2_ws/requirements-build.txt $(MESSAGES) | $(STAMPS)/package
	@echo "preparing ROS 2"
	@rm -rf ros2_ws/install && mkdir -p ros2_ws/install
	@$(BIN)/python ros2_ws/build.py > $@.part && mv $@.part $@
