// Reads the overview every five seconds and one page of targets on request. Text goes in as text, never as markup.
"use strict";

const PAGE = 50;
const REFRESH_MS = 5000;
const by = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
let asked = 0;
let next = null;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(...cells) {
  const made = element("tr");
  made.append(...cells);
  return made;
}

const number = (n) => element("td", count.format(n), "number");

function span(seconds) {
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " d";
}

function ago(time) {
  if (time.startsWith("0001-")) return "never";
  return span(Math.max(0, (Date.now() - Date.parse(time)) / 1000)) + " ago";
}

async function ask(path) {
  const response = await fetch("api/v1/" + path, { headers: { Accept: "application/json" } });
  if (response.status === 503) {
    const reason = response.headers.get("X-Ringscrape-Reason");
    throw new Error(reason ? "Not ready: " + reason + "." : "Not ready.");
  }
  const body = await response.json();
  if (body.status !== "success") throw new Error(body.error);
  return body.data;
}

function say(text, state) {
  by("sentence").textContent = text;
  by("sentence").className = "sentence " + state;
}

function showPools(pools) {
  by("pools").tBodies[0].replaceChildren(...pools.map((p) => {
    const bar = element("progress", undefined, p.down > 0 ? "down" : "");
    bar.max = Math.max(1, p.up + p.down + p.unknown);
    bar.value = p.up;
    const state = element("td", undefined, "bar");
    state.append(bar);
    return row(element("td", p.name), state, number(p.up), number(p.down), number(p.unknown), number(p.dropped));
  }));
  const select = by("pool");
  const names = pools.map((p) => p.name);
  const shown = [...select.options].slice(1).map((o) => o.value);
  if (names.join("\n") === shown.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...names.map((n) => element("option", n)));
  select.value = names.includes(chosen) ? chosen : "";
}

function showRemotes(remotes) {
  by("remote").hidden = remotes.length === 0;
  by("remote").querySelector("tbody").replaceChildren(...remotes.map((r) => {
    const name = element("td", r.name + " ");
    name.append(element("code", r.url));
    const failing = r.failingSince ? "failing for " + span((Date.now() - Date.parse(r.failingSince)) / 1000) + ": " : "";
    const state = element("td", r.lastError ? failing + r.lastError : "ok", r.lastError ? "error" : "up");
    return row(name, element("td", span(r.lagSeconds), "number"), number(r.samplesPending), state);
  }));
}

async function showOverview() {
  try {
    const o = await ask("status/overview");
    say(o.sentence, o.state);
    by("about").textContent =
      o.hostname + " · version " + o.version + " · " + o.engine + " · " + o.shards + " shards · up " + span(o.uptimeSeconds);
    by("reload").hidden = !o.reloadError;
    by("reload").textContent = o.reloadError || "";
    showPools(o.pools);
    showRemotes(o.remoteWrite);
  } catch (e) {
    say(e.message, "bad");
  }
}

function targetRow(t) {
  const address = element("td");
  const link = element("a", t.scrapeUrl);
  if (/^https?:/.test(t.globalUrl)) link.href = t.globalUrl;
  link.rel = "noreferrer";
  address.append(link);
  const labels = element("td");
  labels.append(...Object.entries(t.labels).map(([name, value]) => element("code", name + "=" + value)));
  return row(address, labels, element("td", t.health, t.health), element("td", ago(t.lastScrape), "number"),
    element("td", span(t.lastScrapeDuration), "number"), element("td", t.lastError, "error"));
}

function filter() {
  const asked = new URLSearchParams({ state: "active", limit: PAGE, sort: by("sort").value });
  for (const [name, id] of [["search", "search"], ["scrapePool", "pool"], ["health", "health"]]) {
    if (by(id).value) asked.set(name, by(id).value);
  }
  return asked;
}

async function showTargets(more) {
  const query = filter();
  if (more && next) query.set("page_token", next);
  const mine = ++asked;
  try {
    const page = await ask("targets?" + query);
    if (mine !== asked) return;
    const body = by("targets").tBodies[0];
    const rows = page.activeTargets.map(targetRow);
    if (more) body.append(...rows); else body.replaceChildren(...rows);
    next = page.nextPageToken || null;
    by("more").hidden = !next;
    by("matched").textContent = count.format(body.rows.length) + " of " + count.format(page.matchedTargets);
  } catch (e) {
    if (mine === asked) by("matched").textContent = e.message;
  }
}

let typing = 0;
by("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => showTargets(false), 250);
});
for (const id of ["pool", "health", "sort"]) by(id).addEventListener("change", () => showTargets(false));
by("filter").addEventListener("submit", (e) => e.preventDefault());
by("more").addEventListener("click", () => showTargets(true));

showOverview();
showTargets(false);
setInterval(() => {
  if (document.hidden) return;
  showOverview();
  // A reader who has gone further than the first page is not thrown back.
  if (by("targets").tBodies[0].rows.length <= PAGE) showTargets(false);
}, REFRESH_MS);
