# make demo: set-up, then everything on handwritten digits.   make test: set-up, then linters, type checker, tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: demo test docs lock picture measured clean

demo: $(INSTALLED)
	$(BIN)/bench demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	@# The type checker works beside the tests, and speaks after them.
	$(BIN)/mypy > $(VENV)/mypy.txt & types=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/mypy.txt; exit $$((tests || types))

# The documentation as a site, build/site/index.html; a warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/site

$(INSTALLED): setup.cfg pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c requirements.lock -e '.[test]'
	touch $@

# Renders what `make measured` does, the README's picture of Table 3 (needs a TeX and poppler) and the picture in
# docs/report.md (needs chromium). The records themselves: BENCH_HOME=results/demo make demo.
picture: measured
	mkdir -p $(VENV)/tex
	cd results/demo/tables && \
		pdflatex -interaction=batchmode -output-directory $(abspath $(VENV))/tex tables.tex > /dev/null
	pdftoppm -r 110 -x 50 -y 70 -W 810 -H 620 -f 4 -l 4 -singlefile -png $(VENV)/tex/tables.pdf results/demo/figures/table3
	$(BIN)/bench --home results/demo report --out $(VENV)/report --examples 0
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,1540 --virtual-time-budget=9000 \
		--screenshot=results/demo/figures/report.png file://$(abspath $(VENV))/report/index.html

# Renders the tables in results/ from the records beside them, and puts them into the pages that show them.
measured: $(INSTALLED)
	$(BIN)/python docs/render.py

# Pins what resolves today (run `make test` in a new .venv before committing the result).
lock:
	$(BIN)/python -m pip install --no-compile --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--upgrade setup.cfg -o $(VENV)/resolved.txt
	( sed -n '1,/^[^#]/{/^#/p}' requirements.lock; \
	  sed -E "s/ ; (.*)$$/ ; (\1) and python_version >= '3.11'/; t; s/$$/ ; python_version >= '3.11'/" \
	  $(VENV)/resolved.txt ) > $(VENV)/requirements.lock
	mv $(VENV)/requirements.lock requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .import_linter_cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
