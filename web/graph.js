import { app } from "../../scripts/app.js";

const ZEROS = "00000000-0000-0000-0000-000000000000";

/** The page's outermost graph. */
export function rootGraph() {
    return app.rootGraph ?? app.graph;
}

/**
 * Give the page's graph an id of its own where it has the one of zeros, which a page gives to every graph made from a
 * workflow in API format: the id of somebody else's graph as well, and one that newer pages change at a reload.
 */
export function ensureOwnId() {
    const graph = rootGraph();
    if (graph?.id === ZEROS) graph.id = LiteGraph.uuidv4();
}

/** The node of an execution id such as "7", or "12:7" inside a subgraph. */
export function findNode(executionId) {
    let graph = rootGraph();
    const path = String(executionId).split(":");
    for (const id of path.slice(0, -1)) graph = graph?.getNodeById(Number(id))?.subgraph;
    return graph?.getNodeById(Number(path.at(-1)));
}

/** Whether the graph of a node is the one that the page shows. */
export function isShown(node) {
    return node.graph === app.canvas.graph;
}

/** Add a widget that shows an element, and is not kept among a workflow's settings. */
export function addElement(node, name, element, options) {
    const widget = node.addDOMWidget(name, name, element, { serialize: false, hideOnZoom: false, ...options });
    widget.serialize = false;
    // Until it draws again, the page shows even what is in a closed subgraph, across its top.
    app.canvas.setDirty(true, true);
    requestAnimationFrame(() => ensureDrawn(node, element));
    return widget;
}

/**
 * In Nodes 2.0 the page of ComfyUI 0.3.75 goes on with the widgets that a node had when one of its values or links was
 * changed. It looks for others when a node is announced to its graph.
 */
function ensureDrawn(node, element) {
    const drawn = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
    if (drawn && !node.flags.collapsed && !drawn.contains(element)) node.graph?.onNodeAdded?.(node);
}

/** Make a node as large as its widgets need, and at least `width` pixels wide. */
export function enlarge(node, width = 0) {
    const needed = node.computeSize();
    node.setSize([Math.max(node.size[0], needed[0], width), Math.max(node.size[1], needed[1])]);
}

/** Do something when a node is removed, beside what the page does then. */
export function whenRemoved(node, act) {
    const before = node.onRemoved;
    node.onRemoved = function (...values) {
        before?.apply(this, values);
        act();
    };
}
