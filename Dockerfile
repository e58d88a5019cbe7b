# The service with its examples: `docker run -p 127.0.0.1:8000:8000 stepwell`.
# For machines of your own build on it:
#
#   FROM stepwell
#   COPY machines/ /srv/machines/
#   ENV STEPWELL_MACHINES=/srv/machines/support.py

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/stepwell
ENV PATH=/opt/stepwell/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN python -m pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app/ app/
COPY migrations/ migrations/
RUN python -m pip install --no-deps --no-build-isolation .

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --home-dir /srv/stepwell --shell /usr/sbin/nologin stepwell \
    && install -d -o stepwell -g stepwell /data
COPY --from=build /opt/stepwell /opt/stepwell
WORKDIR /srv/stepwell
COPY examples/ examples/
COPY LICENSE NOTICE ./
ENV PATH=/opt/stepwell/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STEPWELL_HOST=0.0.0.0 \
    STEPWELL_PORT=8000 \
    STEPWELL_DATABASE_URL=sqlite:////data/stepwell.db \
    STEPWELL_MACHINES="examples/counter.py examples/approval.py examples/chat.py" \
    STEPWELL_LOG_FORMAT=json
USER stepwell
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['STEPWELL_PORT']}/healthz\", timeout=2)"]
ENTRYPOINT ["stepwell"]
CMD ["serve"]
