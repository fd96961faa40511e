# The agent alone: no TensorFlow inside.
FROM python:3.11-slim

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/haldane haldane
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY agent agent
RUN pip install --no-cache-dir -c constraints.txt ".[certificates,kubernetes,notify,postgresql,s3,tables]" && rm -rf /src

USER haldane
WORKDIR /var/lib/haldane
VOLUME /var/lib/haldane
EXPOSE 8620
ENTRYPOINT ["haldane"]
CMD ["run", "--config", "/etc/haldane/haldane.yaml"]
