// The API's description as a page to try it on.

// @ts-expect-error: Swagger UI has no types of its own, and is a script, not a module.
window.ui = SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
