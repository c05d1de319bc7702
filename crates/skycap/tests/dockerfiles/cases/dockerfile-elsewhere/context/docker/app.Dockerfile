FROM busybox:1.36
COPY . /ctx/
