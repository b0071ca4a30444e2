# Debian and not Alpine: the native packages ship prebuilt binaries for glibc only.
FROM node:20-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.base.json tsconfig.build.json ./
COPY client client
COPY discovery discovery
COPY node node
RUN npm run build

# Without scripts: `prepare` would look for the compiler, and the native packages need no build.
FROM node:20-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

# No identity is in the image: each container makes or takes its own slot under the data root.
FROM node:20-slim
ENV NODE_ENV=production RAFT_P2P_DATA_ROOT=/data
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
RUN ln -s /app/dist/node/cli.js /usr/local/bin/raft-p2p && install -d -o node -g node /data
USER node
VOLUME /data
EXPOSE 7700
STOPSIGNAL SIGTERM
# Healthy means: this node knows a leader and has caught up.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["node", "-e", \
  "fetch('http://127.0.0.1:7700/readyz').then((a) => process.exit(a.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["raft-p2p"]
CMD ["join", "demo", "--listen", "0.0.0.0:7700", "--log", "json"]
