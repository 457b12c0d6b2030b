// Every state has an address: #/features/212/quantile?q=density+%3E+0.1%25&sort=-density

export const TABS = ["overview", "features", "tree", "map", "sample", "training", "provenance"];
const PAGES = [...TABS, "document"];
export const NOWHERE = "nowhere";
// Parts of a state that an address carries after "?", with the name each has there.
const PARAMETERS = { query: "q", sort: "sort", columns: "cols", open: "open", level: "level", least: "least", zoom: "zoom", feature: "feature", at: "at", act: "act" };

// The document of a notebook's frame has no address of its own that could be rewritten.
const rewritable = location.protocol !== "about:";

export function read(hash) {
  const [path, asked = ""] = hash.replace(/^#\/?/, "").split("?");
  const [tab, id, view] = path.split("/");
  const parameters = new URLSearchParams(asked);
  return {
    tab: PAGES.includes(tab) ? tab : tab ? NOWHERE : "overview",
    path,
    id: /^\d+$/.test(id ?? "") ? Number(id) : null,
    view: /^[a-z]+$/.test(view ?? "") ? view : "",
    ...Object.fromEntries(Object.entries(PARAMETERS).map(([part, name]) => [part, parameters.get(name) ?? ""])),
  };
}

export function address(route) {
  const parameters = new URLSearchParams();
  for (const [part, name] of Object.entries(PARAMETERS)) if (route[part]) parameters.set(name, route[part]);
  const asked = parameters.toString();
  const id = route.id ?? null;
  const path = id === null ? "" : `/${id}${route.view ? `/${route.view}` : ""}`;
  return `#/${route.tab}${path}${asked ? `?${asked}` : ""}`;
}

// The page that an address most likely meant, if any: "feature" is "features".
export function meant(path) {
  const [tab, ...rest] = path.split("/");
  const page = PAGES.find((one) => one.startsWith(tab.toLowerCase()) || tab.toLowerCase().startsWith(one));
  return page ? `#/${[page, ...rest].join("/")}` : null;
}

// Small steps replace the address, so that the back button leads to the last page, not the last keystroke.
export function go(route, { replace = false } = {}) {
  const to = address(route);
  if (to === location.hash) return;
  if (!replace || !rewritable) {
    location.hash = to;
    return;
  }
  history.replaceState(null, "", to);
  window.dispatchEvent(new Event("hashchange"));
}

// A frame without an address would follow "#/tree" to the page around it, so links are followed here.
export function followLinks() {
  if (rewritable) return;
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    location.hash = link.getAttribute("href");
  });
}
