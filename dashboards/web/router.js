// Every state has an address: #/features/212?q=density+%3E+0.1%25&sort=-density

export const TABS = ["overview", "features", "sample", "training", "provenance"];

export function read(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [tab, id] = path.split("/");
  const parameters = new URLSearchParams(query);
  return {
    tab: TABS.includes(tab) ? tab : "overview",
    id: /^\d+$/.test(id ?? "") ? Number(id) : null,
    query: parameters.get("q") ?? "",
    sort: parameters.get("sort") ?? "",
  };
}

export function address({ tab, id = null, query = "", sort = "" }) {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  if (sort) parameters.set("sort", sort);
  const asked = parameters.toString();
  return `#/${tab}${id === null ? "" : `/${id}`}${asked ? `?${asked}` : ""}`;
}

// Small steps replace the address, so that the back button leads to the last page, not the last keystroke.
export function go(route, { replace = false } = {}) {
  const to = address(route);
  if (to === location.hash) return;
  if (!replace) {
    location.hash = to;
    return;
  }
  history.replaceState(null, "", to);
  window.dispatchEvent(new Event("hashchange"));
}
