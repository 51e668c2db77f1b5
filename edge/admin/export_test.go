package admin

// For tests of the page in a browser, with states that no herd need be brought into.
var (
	RenderPage = renderPage
	PagePolicy = pagePolicy
)
